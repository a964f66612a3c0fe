"""Packed dataclasses: they come back with the same bytes, and a file cannot name a class that is not expected."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from napari_srast._utils.packing import UnpackError, contiguous, pack, unpack


@dataclass(frozen=True, eq=False)
class Inner:
    """A part."""

    values: np.ndarray
    level: float


@dataclass(frozen=True, eq=False)
class Outer:
    """A whole."""

    parts: tuple[Inner | None, ...]
    matrix: sparse.csr_matrix
    name: str
    scalar: np.float32
    none: None = None


def packed(value: Any) -> bytes:
    file = io.BytesIO()
    pack(value, file)
    return file.getvalue()


def unpacked(content: bytes, *classes: type) -> Any:
    return unpack(io.BytesIO(content), len(content), classes)


def test_value_comes_back_with_its_bytes_types_and_order() -> None:
    rng = np.random.default_rng(0)
    shared = np.asfortranarray(rng.normal(size=(5, 4)))
    matrix = sparse.random(6, 7, 0.3, format="csr", random_state=0)
    value = Outer((Inner(shared, float("nan")), None, Inner(shared, 0.1)), matrix, "ü", np.float32(0.1))
    got = unpacked(packed(value), Outer, Inner)
    first, none, last = got.parts
    assert none is None
    assert first.values is last.values  # stored once
    assert first.values.flags.f_contiguous
    assert first.values.tobytes("F") == shared.tobytes("F")
    assert np.isnan(first.level)
    assert last.level == 0.1
    assert (got.matrix != matrix).nnz == 0
    assert type(got.scalar) is np.float32
    assert got.scalar == np.float32(0.1)
    assert (got.name, got.none) == ("ü", None)


def test_arrays_that_are_not_contiguous_become_what_a_file_gives() -> None:
    strided = np.arange(24.0).reshape(4, 6)[:, ::2]
    value = (strided, strided[:, ::-1])
    for got, read in zip(contiguous(value, ()), unpacked(packed(value)), strict=True):
        assert got.strides == read.strides
        np.testing.assert_array_equal(got, read)


def test_only_expected_classes_are_unpacked() -> None:
    content = packed(Inner(np.zeros(2), 1.0))
    with pytest.raises(UnpackError):
        unpacked(content, Outer)


@pytest.mark.parametrize("value", [object(), {"a": 1}, [1], np.array([None])])
def test_other_values_are_not_packed(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be packed"):
        packed(value)
