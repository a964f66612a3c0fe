"""Texts of other libraries, shortened for use in this package's messages."""

from __future__ import annotations

__all__ = ["first_line"]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text without its final punctuation, or else the name of its class."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".:")
