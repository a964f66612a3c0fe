"""Add elements to an existing store, such that a kill at any moment leaves its other elements unchanged.

The elements are first written to a separate store, the staging folder: a hidden sibling ``.NAME.LAST.merging``, where
LAST is the name of the last element. Then they are renamed into the existing store one by one, tables last, because the
last element marks a complete merge. Finally the root metadata of the store, which list its elements, are replaced in
one step. If the next writer finds a staging folder, the merge was killed: it is completed if its last element was
moved, and reverted otherwise.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_srast.errors import OutputError, is_memory_error
from napari_srast.io.atomic import output_error, remove, remove_stale_partials, replace_file, write_lock
from napari_srast.io.element_selection import RESULT_PREFIX

__all__ = ["merge_into", "merge_locked"]

_WAIT = 30.0  # seconds; most writes take less
_KINDS = ("images", "labels", "shapes", "tables")  # in the order in which they are moved
_ROOT = "zarr.json"
_RESULT_NAME = re.compile(rf"{RESULT_PREFIX}[A-Za-z0-9_.-]+")


def merge_into(
    path: Path, names: Mapping[str, Sequence[str]], write: Callable[[Path], None], *, wait: float = _WAIT
) -> None:
    """Add elements to the store at ``path``.

    Parameters
    ----------
    path
        The store, of Zarr format 3.
    names
        Names of the elements by their kind ("images", "labels", "shapes", "tables"), in this order; names start with
        :data:`RESULT_PREFIX`.
    write
        Writes these elements, and no others, to a new store at a path.
    wait
        Seconds to wait for another process that writes to the same store.

    Raises
    ------
    OutputError
        A name exists already, another process writes to the store, or the system refuses to write. The store is then
        byte for byte unchanged.
    """
    path = path.resolve()
    with write_lock(path, wait=wait):
        merge_locked(path, names, write)


def merge_locked(path: Path, names: Mapping[str, Sequence[str]], write: Callable[[Path], None]) -> None:
    """Add elements as :func:`merge_into` does, for a caller that holds the lock of the resolved ``path``."""
    import zarr

    remove_stale_partials(path)
    for sibling in path.parent.glob(f".{_escaped(path.name)}.*.merging"):
        _recover(path, sibling)
    present = {element.name.casefold() for kind in path.iterdir() if kind.is_dir() for element in kind.iterdir()}
    new = [name for group in names.values() for name in group]
    duplicates = [name for name in new if name.casefold() in present]
    if duplicates:
        raise OutputError(f"'{path}' already holds '{duplicates[0]}'; run again or write to a new store.")
    staging = path.parent / f".{path.name}.{new[-1]}.merging"
    root = (path / _ROOT).read_bytes()
    moved: list[Path] = []
    try:
        write(staging)
        for source, target in _moves(staging, path):
            os.rename(source, target)
            moved.append(target)
        _add_metadata(path, staging)
        zarr.open_group(path, mode="r")  # a store that cannot be opened is restored
    except BaseException as error:
        for target in reversed(moved):
            remove(target)
        if (path / _ROOT).read_bytes() != root:
            replace_file(path / _ROOT, root)
        remove(staging)
        if isinstance(error, OSError) and not is_memory_error(error):
            raise output_error(path, error, leftover=staging) from error
        raise
    remove(staging)


def _moves(staging: Path, path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield source and target of each move: an element, or the folder of its kind if the store has none."""
    for kind in _KINDS:
        if not (staging / kind).is_dir():
            continue
        if not (path / kind).exists():
            yield staging / kind, path / kind
        else:
            yield from ((staging / kind / name, path / kind / name) for name in _elements(staging / kind))


def _elements(folder: Path) -> list[str]:
    """Return the names of the elements in the folder of a kind."""
    return sorted(element.name for element in folder.iterdir() if element.is_dir())


def _add_metadata(path: Path, staging: Path) -> None:
    """Add the new elements to the consolidated metadata in the root of the store, if it has them."""
    root = json.loads((path / _ROOT).read_bytes())
    present = _consolidated(root)
    if present is None:
        return
    added = _consolidated(json.loads((staging / _ROOT).read_bytes())) or {}
    merged = {**added, **present}
    # Zarr requires that the children of a group follow each other.
    keys = sorted(merged, key=lambda key: (key.count("/"), key.rpartition("/")[0], key))
    root["consolidated_metadata"]["metadata"] = {key: merged[key] for key in keys}
    replace_file(path / _ROOT, json.dumps(root, indent=2).encode())


def _consolidated(root: dict[str, Any]) -> dict[str, Any] | None:
    """Return the consolidated metadata in a root, by the path of the node."""
    block = root.get("consolidated_metadata")
    return block.get("metadata") if isinstance(block, dict) else None


def _recover(path: Path, staging: Path) -> None:
    """Complete or revert the merge of a killed process."""
    try:
        names = _consolidated(json.loads((staging / _ROOT).read_bytes())) or {}
    except (OSError, ValueError, AttributeError):
        names = {}  # killed before the staging folder was complete: nothing was moved
    elements = [tuple(key.split("/")) for key in names if key.count("/") == 1]
    # Elements with other names were not written by this package, whatever the staging folder lists.
    targets = [path / kind / name for kind, name in elements if kind in _KINDS and _RESULT_NAME.fullmatch(name)]
    last_kind = max((_KINDS.index(target.parent.name) for target in targets), default=-1)
    marks = [target for target in targets if _KINDS.index(target.parent.name) == last_kind]
    if marks and all(mark.is_dir() for mark in marks):
        _add_metadata(path, staging)
    else:
        for target in targets:
            remove(target)
            if target.parent.is_dir() and [child.name for child in target.parent.iterdir()] == [_ROOT]:
                _remove_empty_kind(path, target.parent)
    remove(staging)


def _remove_empty_kind(path: Path, folder: Path) -> None:
    """Remove the folder of a kind that was moved with its element, unless the metadata of the store list it."""
    present = _consolidated(json.loads((path / _ROOT).read_bytes()))
    if present is not None and folder.name not in present:
        remove(folder)


def _escaped(name: str) -> str:
    """Escape the glob characters in a name."""
    return re.sub(r"([*?[])", r"[\1]", name)
