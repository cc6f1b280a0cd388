"""What the operator wrote: environment and config.yaml, read strictly, as plain data."""
