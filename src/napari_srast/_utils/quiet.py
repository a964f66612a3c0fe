"""Silence other packages while they are imported or called."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

__all__ = ["suppress_output"]


@contextlib.contextmanager
def suppress_output() -> Iterator[None]:
    """Suppress what Python code prints to standard output, and all warnings."""
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
