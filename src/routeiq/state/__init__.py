"""What survives a restart or is shared: SQLite, PostgreSQL, Redis and memory behind `routeiq.stores`."""
