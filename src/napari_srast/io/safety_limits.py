"""What a store or a table declares, looked at before it is read: no file may fill the memory or run code.

Reading allocates what the metadata declare, whatever lies on the disk: a file of 300 bytes is enough to declare an
array of 10^12 values. So declarations are added up first. The limits, which no real slide meets:

- a table, shapes, and the file of an image to import, which are read whole: the memory of this machine;
- one chunk of anything, decoded: the memory of this machine;
- an image or labels, which are read piece by piece: :data:`MAX_IMAGE_VALUES` and :data:`MAX_CHUNKS`;
- one metadata file: :data:`MAX_METADATA_BYTES`.

Zarr can be told to unpickle chunks, which would run what the writer of the file wished; such arrays are refused.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_srast.errors import InputError

__all__ = [
    "MAX_CHUNKS",
    "MAX_IMAGE_VALUES",
    "MAX_METADATA_BYTES",
    "check_h5ad",
    "check_pixels",
    "check_store",
    "memory_limit",
]

MAX_IMAGE_VALUES = 10**12
MAX_CHUNKS = 10**7
MAX_METADATA_BYTES = 500_000_000
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zmetadata", ".zattrs")
_EAGER = ("tables", "shapes")
_ROW_BYTES = 100  # of a shape, once it is a geometry in memory


def memory_limit() -> int:
    """Return the memory of this machine in bytes: what is larger cannot be read whole."""
    import psutil

    return int(psutil.virtual_memory().total)


def check_store(path: Path) -> None:
    """Refuse a SpatialData store that declares more than can be read, or asks for code to be run.

    Raises
    ------
    InputError
        Names the element that is too large or unsafe.
    """
    limit = memory_limit()
    totals: dict[str, int] = {}
    for file in _metadata_files(path):
        if file.suffix == ".parquet":
            _check_rows(file, path, limit)
            continue
        content = _parse(file)
        place = file.parent.relative_to(path).as_posix()
        for node, declared in _nodes(content, "" if place == "." else place):
            _check_codecs(declared, node)
            nbytes = _check_array(declared, node, limit)
            if nbytes and node.split("/")[0] in _EAGER and file.name in ("zarr.json", ".zarray"):
                # What the root repeats of all arrays is added up by itself.
                element = f"{'root:' if file.parent == path else ''}{'/'.join(node.split('/')[:2])}"
                totals[element] = totals.get(element, 0) + nbytes
                if totals[element] > limit:
                    raise _too_large(element.removeprefix("root:"), totals[element], limit)


def check_h5ad(path: Path) -> None:
    """Refuse an HDF5 table that declares more than can be read, or takes its values from other files.

    Raises
    ------
    InputError
        Names what is too large or lies elsewhere. A file that cannot be opened passes: its reader tells why.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            total = sum(_dataset_bytes(file, path))
    except OSError:
        return
    limit = memory_limit()
    if total > limit:
        raise _too_large(str(path), total, limit)


def check_pixels(path: Path, needed: int) -> None:
    """Refuse an image file whose pixels would not fit the memory: one of a few bytes can declare any number.

    Raises
    ------
    InputError
        Names the file.
    """
    limit = memory_limit()
    if needed > limit:
        raise _too_large(str(path), needed, limit)


def _dataset_bytes(file: Any, path: Path) -> Iterator[int]:
    """Yield the declared size of every dataset, each once."""
    import h5py

    seen, groups = set(), [file["/"]]
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise _elsewhere(path, name)
            if not isinstance(link, h5py.HardLink):
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise InputError(
                        f"'{path}' takes '{name}' from another file; write the table to a file of its own."
                    )
                yield int(item.size or 0) * item.dtype.itemsize


def _elsewhere(path: Path, name: str) -> InputError:
    return InputError(f"'{path}' takes '{name}' from another file; write the table to a file of its own.")


def _metadata_files(path: Path) -> Iterator[Path]:
    """Yield the metadata files and Parquet tables of shapes, without walking through the chunks of arrays."""
    seen = set()
    for folder, children, names in os.walk(path, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            children.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        here = Path(folder)
        children[:] = [child for child in children if not child.endswith(".parquet")]
        for name in names:
            if name in _METADATA:
                yield here / name
            elif name == "shapes.parquet":
                yield here / name
        if ".zarray" in names or ("zarr.json" in names and _is_array(here / "zarr.json")):
            children.clear()


def _is_array(file: Path) -> bool:
    content = _parse(file)
    return isinstance(content, Mapping) and content.get("node_type") == "array"


def _parse(file: Path) -> Any:
    """Return the content of a metadata file, None where it is damaged: whoever reads it next tells so."""
    try:
        if file.stat().st_size > MAX_METADATA_BYTES:
            raise InputError(
                f"'{file}' has more than {MAX_METADATA_BYTES / 1e6:.0f} MB of metadata; restore the slide from a copy."
            )
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _nodes(content: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every array that a metadata file declares: its own, and those that a root repeats of the whole store."""
    if not isinstance(content, Mapping):
        return
    yield place, content
    block = content.get("consolidated_metadata")
    inner = content.get("metadata") if block is None else block.get("metadata") if isinstance(block, Mapping) else None
    for key, value in inner.items() if isinstance(inner, Mapping) else ():
        name = str(key).removesuffix("/.zarray")
        yield from _nodes(value, f"{place}/{name}".strip("/"))


def _check_codecs(declared: Mapping[str, Any], node: str) -> None:
    """Refuse to unpickle. Current numcodecs refuse it too; older ones do it."""
    pending: list[Any] = [declared.get(key) for key in ("codecs", "filters", "compressor")]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            if any("pickle" in str(value.get(key, "")).casefold() for key in ("id", "name")):
                raise InputError(
                    f"'{node}' of the store holds pickled objects, which could run any program; "
                    "ask whoever made the slide to write it without."
                )
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _check_array(declared: Mapping[str, Any], node: str, limit: int) -> int:
    """Return the bytes that an array declares, 0 for what is no array."""
    shape, chunks = _lengths(declared.get("shape")), _chunk_shape(declared)
    if shape is None:
        return 0
    size = _item_bytes(declared.get("data_type", declared.get("dtype")))
    n_values = math.prod(shape)
    n_chunks = 1
    if chunks is not None and len(chunks) == len(shape) and all(chunks):
        if math.prod(chunks) * size > limit:
            raise _too_large(f"{node} (one chunk of it)", math.prod(chunks) * size, limit)
        n_chunks = math.prod(-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True))
    if node.split("/")[0] not in _EAGER and (n_values > MAX_IMAGE_VALUES or n_chunks > MAX_CHUNKS):
        raise InputError(
            f"'{node}' of the store declares {n_values:.3g} values in {n_chunks:.3g} chunks, more than the "
            f"{MAX_IMAGE_VALUES:.0e} values and {MAX_CHUNKS:.0e} chunks that are read; restore or rechunk it."
        )
    return n_values * size


def _lengths(value: Any) -> list[int] | None:
    """Return a shape as whole numbers; None where it is none, which its reader tells."""
    if isinstance(value, list) and all(isinstance(length, int) and length >= 0 for length in value):
        return value
    return None


def _chunk_shape(declared: Mapping[str, Any]) -> list[int] | None:
    grid = declared.get("chunk_grid")
    if isinstance(grid, Mapping):
        inner = grid.get("configuration")
        return _lengths(inner.get("chunk_shape")) if isinstance(inner, Mapping) else None
    return _lengths(declared.get("chunks"))


def _item_bytes(data_type: Any) -> int:
    """Return the bytes of one value; eight, those of a pointer, where it has no fixed size."""
    if isinstance(data_type, Mapping):
        configuration = data_type.get("configuration")
        length = configuration.get("length_bytes") if isinstance(configuration, Mapping) else None
        return length if isinstance(length, int) and length > 0 else 8
    try:
        return max(1, np.dtype(data_type).itemsize) if isinstance(data_type, str) else 8
    except (TypeError, ValueError):
        return 8


def _check_rows(file: Path, store: Path, limit: int) -> None:
    """Refuse a Parquet file of more rows than fit the memory: a file of a few bytes can declare any number."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(file)
    except (OSError, pyarrow.ArrowException):
        return
    sizes = (metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    needed = max(metadata.num_rows * _ROW_BYTES, sum(sizes))
    if needed > limit:
        raise _too_large(file.parent.relative_to(store).as_posix(), needed, limit)


def _too_large(what: str, needed: int, limit: int) -> InputError:
    return InputError(
        f"'{what}' declares {needed / 1e9:.4g} GB, but this machine has {limit / 1e9:.4g} GB of memory; "
        "take a smaller slide, or restore it from a copy if it should not be that large."
    )
