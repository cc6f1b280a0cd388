"""Circuit breakers, retries, admission and drain."""
