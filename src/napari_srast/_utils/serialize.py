"""Conversion of values to the types that JSON can represent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["to_builtin", "to_json_values"]


def to_json_values(value: Any) -> Any:
    """Convert nested values to JSON types.

    Dataclasses and mappings become dictionaries with text keys; lists, tuples, sets and arrays become lists; scalars of
    NumPy become Python's; paths become text; NaN and infinities become None. Other values are returned unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> to_json_values({"skill": np.array([0.5, np.nan]), "genes": ("A", "B")})
    {'skill': [0.5, None], 'genes': ['A', 'B']}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json_values(item) for key, item in value.items()}
    value = to_builtin(value)
    if isinstance(value, list | tuple | set):
        return [to_json_values(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def to_builtin(value: Any) -> Any:
    """Convert an array or scalar of NumPy to Python's list or scalar; other values are returned unchanged."""
    return value.tolist() if hasattr(value, "tolist") else value
