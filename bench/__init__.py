"""What the gateway costs, measured against a direct call in the same run: `python -m bench --help`."""
