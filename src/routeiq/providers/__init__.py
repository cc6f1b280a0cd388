"""The native lane: HTTP client, OpenAI-compatible dialects, streams, prices."""
