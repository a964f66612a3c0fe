"""Pack nested frozen dataclasses of arrays into one file without code: NumPy arrays and a description in JSON.

Only arrays, sparse matrices, plain values, tuples and dataclasses are packed, and only dataclasses that the reader
names are unpacked, so that a file cannot run code. Arrays keep their bytes, type and order in memory: what is computed
from them does not depend on whether they were packed.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import fields, is_dataclass
from typing import IO, Any

import numpy as np
from scipy import sparse

__all__ = ["UnpackError", "contiguous", "pack", "unpack"]

_DESCRIPTION = "description"


class UnpackError(ValueError):
    """A file is damaged, or it is not what the reader expects."""


def pack(value: Any, file: IO[bytes]) -> None:
    """Write a value to a file.

    Parameters
    ----------
    value
        Dataclass, tuple, array, CSR matrix or plain value, nested to any depth.
    file
        File that is open for writing.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_encode(value, arrays, {}))
    parts = {f"a{index}": array for index, array in enumerate(arrays)}
    np.savez(file, allow_pickle=False, **{_DESCRIPTION: np.frombuffer(text.encode(), dtype=np.uint8)}, **parts)


def unpack(content: IO[bytes], n_bytes: int, classes: tuple[type, ...]) -> Any:
    """Read what :func:`pack` has written.

    Parameters
    ----------
    content
        File that is open for reading.
    n_bytes
        Size of the file; its parts are not compressed, so they cannot be larger.
    classes
        Dataclasses that the value may consist of.

    Raises
    ------
    UnpackError
        The file is damaged or contains anything else.
    """
    try:
        with zipfile.ZipFile(content) as parts:
            members = parts.infolist()
            if sum(member.file_size for member in members) > n_bytes:
                raise UnpackError("the parts are larger than the file")
            loaded = {member.filename.removesuffix(".npy"): _read(parts.read(member)) for member in members}
        text = loaded.pop(_DESCRIPTION).tobytes().decode()
        arrays = [loaded[f"a{index}"] for index in range(len(loaded))]
        return _decode(json.loads(text), arrays, {one.__name__: one for one in classes})
    except UnpackError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, EOFError, OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise UnpackError(f"{type(error).__name__}: {error}") from error


def contiguous(value: Any, classes: tuple[type, ...]) -> Any:
    """Return a value as :func:`unpack` would return it, without writing a file."""
    arrays: list[np.ndarray] = []
    description = _encode(value, arrays, {})
    return _decode(description, arrays, {one.__name__: one for one in classes})


def _read(content: bytes) -> np.ndarray:
    return np.asarray(np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))


def _encode(value: Any, arrays: list[np.ndarray], known: dict[int, int]) -> Any:
    """Describe a value; its arrays are appended to a list, each once."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray):
        return {"array": _add(value, arrays, known)}
    if isinstance(value, np.generic):
        return {"scalar": _add(np.asarray(value), arrays, {})}
    if isinstance(value, tuple):
        return {"tuple": [_encode(one, arrays, known) for one in value]}
    if isinstance(value, sparse.csr_matrix):
        parts = (value.data, value.indices, value.indptr)
        return {"csr": [_add(part, arrays, known) for part in parts], "shape": [int(size) for size in value.shape]}
    if is_dataclass(value):
        described = {field.name: _encode(getattr(value, field.name), arrays, known) for field in fields(value)}
        return {"class": type(value).__name__, "fields": described}
    raise TypeError(f"{type(value).__name__} cannot be packed")


def _add(array: np.ndarray, arrays: list[np.ndarray], known: dict[int, int]) -> int:
    if array.dtype.hasobject:
        raise TypeError("arrays of objects cannot be packed")
    if id(array) not in known:
        known[id(array)] = len(arrays)
        arrays.append(array if array.flags.f_contiguous else np.ascontiguousarray(array))
    return known[id(array)]


def _decode(description: Any, arrays: list[np.ndarray], classes: dict[str, type]) -> Any:
    if not isinstance(description, dict):
        return description
    if "array" in description:
        return arrays[description["array"]]
    if "scalar" in description:
        return arrays[description["scalar"]][()]
    if "tuple" in description:
        return tuple(_decode(one, arrays, classes) for one in description["tuple"])
    if "csr" in description:
        return sparse.csr_matrix(tuple(arrays[index] for index in description["csr"]), shape=description["shape"])
    values = {name: _decode(one, arrays, classes) for name, one in description["fields"].items()}
    return classes[description["class"]](**values)
