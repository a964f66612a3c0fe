"""Texts: small files that people write, and messages of other libraries."""

from __future__ import annotations

import codecs
from pathlib import Path

__all__ = ["count", "first_line", "read_text", "reading_failure"]

_MAX_BYTES = 50_000_000


def count(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural.

    Examples
    --------
    >>> count(1, "gene"), count(2379, "pixel")
    ('1 gene', '2,379 pixels')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text without its final punctuation, or else the name of its class."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".:")


def read_text(path: Path) -> str:
    """Read a file of limited size as text: UTF-8, or UTF-16 with its byte order mark.

    The size is limited because a wrong path may lead to an endless file.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file is above 50 MB, or no text in these encodings.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"too long, above {_MAX_BYTES // 10**6} MB")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")  # the "Unicode text" of spreadsheet programs
    text = content.decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("not a text file")
    return text


def reading_failure(error: Exception) -> str:
    """Return in a few words why :func:`read_text` failed, for use inside a sentence."""
    if isinstance(error, OSError):
        return error.strerror or "no reason given"
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
