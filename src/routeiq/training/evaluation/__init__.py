"""Offline evaluation: pure functions on arrays, then baselines, intervals and reports built from them."""
