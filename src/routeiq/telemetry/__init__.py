"""What the gateway says about itself: structured logs, decision records."""
