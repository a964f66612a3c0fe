"""Tests of the conversion to JSON types."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from napari_srast._utils.serialize import to_builtin, to_json_values


@dataclass
class Score:
    gene: str
    values: np.ndarray


def test_nested_values_become_json_types() -> None:
    values = {1: Score("A", np.array([1.0, np.inf])), "paths": (Path("a"), {"b"}), "n": np.int64(3), "none": None}
    expected = {"1": {"gene": "A", "values": [1.0, None]}, "paths": ["a", ["b"]], "n": 3, "none": None}
    assert to_json_values(values) == expected
    assert json.dumps(to_json_values(values), allow_nan=False)


@pytest.mark.parametrize("value", [float("nan"), np.float32("inf"), -np.inf])
def test_undefined_numbers_become_none(value: float) -> None:
    assert to_json_values(value) is None


def test_builtin_types_are_kept() -> None:
    assert to_builtin(np.array("text")) == "text"
    assert type(to_builtin(np.bool_(True))) is bool
    assert to_builtin("text") == "text"
