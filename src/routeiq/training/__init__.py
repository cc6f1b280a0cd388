"""Offline: data, fitting, evaluation, replay. Nothing that serves requests imports it."""
