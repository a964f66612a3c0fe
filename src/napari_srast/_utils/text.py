"""TODO docstring."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


__all__ = ["one_line"]


def one_line(error: BaseException) -> str:
    """Give the first line of an error's text, for use inside a sentence."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".:")
