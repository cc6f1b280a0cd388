"""One strategy a file; each scores candidates and none knows another."""
