"""Distinguish changes of layers by this plugin from those by the user."""

from __future__ import annotations

__all__ = ["OwnChanges"]


class OwnChanges:
    """Context manager that is true inside its block, where events of layers are ignored; blocks may be nested."""

    def __init__(self) -> None:
        self._depth = 0

    def __bool__(self) -> bool:
        return self._depth > 0

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
