"""Refuse stores and tables that would fill the memory or run code, before they are read.

Reading allocates what the metadata declare, not what is on disk: a file of 300 bytes can declare an array of 10^12
values. So the declared sizes are summed first. The limits, which real slides do not reach:

- tables, shapes, and the file of an image to import, which are read completely: the memory of this computer;
- one decoded chunk of any array: the memory of this computer;
- images and labels, which are read in blocks: :data:`MAX_IMAGE_VALUES` and :data:`MAX_CHUNKS`;
- one metadata file: :data:`MAX_METADATA_BYTES`.

The metadata of a Zarr array can request that its chunks are unpickled, which can run any code; such arrays are refused.
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
    "check_image_size",
    "check_store",
    "memory_limit",
]

MAX_IMAGE_VALUES = 10**12
"""Largest number of values of an image or labels."""
MAX_CHUNKS = 10**7
"""Largest number of chunks of an image or labels."""
MAX_METADATA_BYTES = 500_000_000
"""Largest size of a metadata file."""
_METADATA_FILES = ("zarr.json", ".zarray", ".zgroup", ".zmetadata", ".zattrs")
_EAGER_KINDS = ("tables", "shapes")  # kinds of elements that are read completely
_SHAPE_BYTES = 100  # of one shape in memory


def memory_limit() -> int:
    """Return the memory of this computer in bytes: larger arrays cannot be read completely."""
    import psutil

    return int(psutil.virtual_memory().total)


def check_store(path: Path) -> None:
    """Refuse a SpatialData store that declares more data than can be read, or that would run code.

    Parameters
    ----------
    path
        The store.

    Raises
    ------
    InputError
        An element is too large or unsafe; the message names it.
    """
    limit = memory_limit()
    totals: dict[str, int] = {}
    for file in _metadata_files(path):
        if file.suffix == ".parquet":
            _check_rows(file, path, limit)
            continue
        content = _parse(file)
        folder = file.parent.relative_to(path).as_posix()
        for node, declared in _nodes(content, "" if folder == "." else folder):
            _check_codecs(declared, node)
            nbytes = _check_array(declared, node, limit)
            if nbytes and node.split("/")[0] in _EAGER_KINDS and file.name in ("zarr.json", ".zarray"):
                # The root may repeat the metadata of all arrays, which are summed separately.
                element = f"{'root:' if file.parent == path else ''}{'/'.join(node.split('/')[:2])}"
                totals[element] = totals.get(element, 0) + nbytes
                if totals[element] > limit:
                    raise _too_large(element.removeprefix("root:"), totals[element], limit)


def check_h5ad(path: Path) -> None:
    """Refuse an HDF5 table that declares more data than can be read, or that links to other files.

    A file that cannot be opened passes, because its reader reports the reason.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        The table is too large, or a part of it is in another file; the message names the part.
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


def check_image_size(path: Path, n_bytes: int) -> None:
    """Refuse an image file whose pixels do not fit in memory: a small file can declare any number of pixels.

    Parameters
    ----------
    path
        The file.
    n_bytes
        Memory that reading the image takes.

    Raises
    ------
    InputError
        The image is too large.
    """
    limit = memory_limit()
    if n_bytes > limit:
        raise _too_large(str(path), n_bytes, limit)


def _dataset_bytes(file: Any, path: Path) -> Iterator[int]:
    """Yield the declared size of every dataset in bytes, each dataset once."""
    import h5py

    seen, groups = set(), [file["/"]]
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise _in_another_file(path, name)
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
                    raise _in_another_file(path, name)
                yield int(item.size or 0) * item.dtype.itemsize


def _in_another_file(path: Path, name: str) -> InputError:
    return InputError(f"'{path}' takes '{name}' from another file; write the table with all its data to one file.")


def _metadata_files(path: Path) -> Iterator[Path]:
    """Yield the metadata files and the Parquet files of shapes, without visiting the chunks of arrays."""
    seen = set()
    for folder, children, names in os.walk(path, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link to a visited folder
            children.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        here = Path(folder)
        children[:] = [child for child in children if not child.endswith(".parquet")]
        for name in names:
            if name in _METADATA_FILES or name == "shapes.parquet":
                yield here / name
        if ".zarray" in names or ("zarr.json" in names and _is_array(here / "zarr.json")):
            children.clear()


def _is_array(file: Path) -> bool:
    content = _parse(file)
    return isinstance(content, Mapping) and content.get("node_type") == "array"


def _parse(file: Path) -> Any:
    """Return the content of a metadata file; None if it is damaged, which the reader of the element reports."""
    try:
        if file.stat().st_size > MAX_METADATA_BYTES:
            raise InputError(
                f"'{file}' has more than {MAX_METADATA_BYTES / 1e6:.0f} MB of metadata; restore the slide from a copy."
            )
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _nodes(content: Any, node: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield path and metadata of every node that a metadata file declares: its own, and consolidated ones."""
    if not isinstance(content, Mapping):
        return
    yield node, content
    block = content.get("consolidated_metadata")
    inner = content.get("metadata") if block is None else block.get("metadata") if isinstance(block, Mapping) else None
    for key, value in inner.items() if isinstance(inner, Mapping) else ():
        name = str(key).removesuffix("/.zarray")
        yield from _nodes(value, f"{node}/{name}".strip("/"))


def _check_codecs(declared: Mapping[str, Any], node: str) -> None:
    """Refuse pickled chunks. Current versions of numcodecs refuse them, too; older ones read them."""
    pending: list[Any] = [declared.get(key) for key in ("codecs", "filters", "compressor")]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            if any("pickle" in str(value.get(key, "")).casefold() for key in ("id", "name")):
                raise InputError(
                    f"'{node}' of the store holds pickled objects, which could run any program; "
                    "ask the author of the slide for a store without them."
                )
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _check_array(declared: Mapping[str, Any], node: str, limit: int) -> int:
    """Return the bytes that an array declares; 0 for a group."""
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
    if node.split("/")[0] not in _EAGER_KINDS and (n_values > MAX_IMAGE_VALUES or n_chunks > MAX_CHUNKS):
        raise InputError(
            f"'{node}' of the store declares {n_values:.3g} values in {n_chunks:.3g} chunks, more than the "
            f"{MAX_IMAGE_VALUES:.0e} values and {MAX_CHUNKS:.0e} chunks that are read; restore or rechunk it."
        )
    return n_values * size


def _lengths(value: Any) -> list[int] | None:
    """Return a shape as integers; None if it is invalid, which the reader of the array reports."""
    if isinstance(value, list) and all(isinstance(length, int) and length >= 0 for length in value):
        return value
    return None


def _chunk_shape(declared: Mapping[str, Any]) -> list[int] | None:
    """Return the shape of the chunks, for both Zarr formats; None if it is missing or invalid."""
    grid = declared.get("chunk_grid")
    if isinstance(grid, Mapping):
        inner = grid.get("configuration")
        return _lengths(inner.get("chunk_shape")) if isinstance(inner, Mapping) else None
    return _lengths(declared.get("chunks"))


def _item_bytes(data_type: Any) -> int:
    """Return the bytes of one value; 8, the size of a pointer, for types without a fixed size."""
    if isinstance(data_type, Mapping):
        configuration = data_type.get("configuration")
        length = configuration.get("length_bytes") if isinstance(configuration, Mapping) else None
        return length if isinstance(length, int) and length > 0 else 8
    try:
        return max(1, np.dtype(data_type).itemsize) if isinstance(data_type, str) else 8
    except (TypeError, ValueError):
        return 8


def _check_rows(file: Path, store: Path, limit: int) -> None:
    """Refuse a Parquet file whose rows do not fit in memory: a small file can declare any number of rows."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(file)
    except (OSError, pyarrow.ArrowException):
        return
    sizes = (metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    needed = max(metadata.num_rows * _SHAPE_BYTES, sum(sizes))
    if needed > limit:
        raise _too_large(file.parent.relative_to(store).as_posix(), needed, limit)


def _too_large(what: str, needed: int, limit: int) -> InputError:
    return InputError(
        f"'{what}' declares {needed / 1e9:.4g} GB, but this machine has {limit / 1e9:.4g} GB of memory; "
        "use a smaller slide, or restore it from a copy if it should not be that large."
    )
