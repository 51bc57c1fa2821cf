"""What `make check` looks at beside style and types."""

from __future__ import annotations

from tests.faults.conftest import tried

__all__ = ["tried"]
