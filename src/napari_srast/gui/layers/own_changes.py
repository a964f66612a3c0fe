"""Tell changes of layers by this plugin from those of the user."""

from __future__ import annotations

__all__ = ["OwnChanges"]


class OwnChanges:
    """A context, which can be nested, that is true while it is entered: events of layers are then ignored."""

    def __init__(self) -> None:
        self._depth = 0

    def __bool__(self) -> bool:
        return self._depth > 0

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
