"""Composition: configuration becomes a runtime, the runtime answers HTTP."""
