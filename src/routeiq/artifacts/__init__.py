"""Trained strategies as data: written, signed, verified over the bytes that are loaded, activated, fetched.

`artifact` writes and opens one, `signature` signs and says whose signature counts, `store` keeps versions and
which one is active, `sources` are the places they come from, `sync` brings new ones from there. Nothing here
runs on the event loop: all of it blocks on disks and networks, so it belongs into a thread.
"""
