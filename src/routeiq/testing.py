"""Public contract suites and fakes: third parties run the same checks as this repository."""

from __future__ import annotations
