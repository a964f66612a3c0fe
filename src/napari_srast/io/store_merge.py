"""Adding elements to an existing store so that a kill at any moment leaves the store's own elements as they were.

The elements are first written, whole, to a store of their own: a hidden sibling ``.NAME.MARK.merging``. They are then
renamed into the existing store one by one, the tables last, because the last one is the mark that everything is there;
then the store's root metadata, which name them, are replaced in one step. A sibling that is still there when the next
writer comes tells what a killed one had begun: it is finished if its last element had arrived, else taken back.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from napari_srast.errors import OutputError, is_memory_error
from napari_srast.io.atomic import output_error, remove, remove_stale_partials, replace_file, write_lock
from napari_srast.io.element_selection import RESULT_PREFIX

__all__ = ["merge_into"]

_WAIT = 30.0  # seconds: most stores are written in less
_KINDS = ("images", "shapes", "tables")  # in the order of their arrival
_ROOT = "zarr.json"
_OURS = re.compile(rf"{RESULT_PREFIX}[A-Za-z0-9_.-]+")


def merge_into(path: Path, names: dict[str, str], write: Callable[[Path], None], *, wait: float = _WAIT) -> None:
    """Add elements to the store at ``path``.

    Parameters
    ----------
    path
        The store, of Zarr format 3.
    names
        Kind ("images", "shapes", "tables") and name of each element; the names begin with :data:`RESULT_PREFIX`.
    write
        Writes exactly these elements to a new store.
    wait
        Seconds to wait for another process that writes into the same store.

    Raises
    ------
    OutputError
        A name is taken, the store is being written by another process, or the system refuses to write. The store is
        then byte for byte as before.
    """
    import zarr

    path = path.resolve()
    with write_lock(path, wait=wait):
        remove_stale_partials(path)
        for sibling in path.parent.glob(f".{_escaped(path.name)}.*.merging"):
            _recover(path, sibling)
        present = {element.name.casefold() for kind in path.iterdir() if kind.is_dir() for element in kind.iterdir()}
        taken = [name for name in names.values() if name.casefold() in present]
        if taken:
            raise OutputError(f"'{path}' already holds '{taken[0]}'; run again or write to a new store.")
        staging = path.parent / f".{path.name}.{list(names.values())[-1]}.merging"
        root = (path / _ROOT).read_bytes()
        moved: list[Path] = []
        try:
            write(staging)
            for source, target in _moves(staging, path):
                os.rename(source, target)
                moved.append(target)
            _name_elements(path, staging)
            zarr.open_group(path, mode="r")  # a store that cannot be opened any more is given back as it was
        except BaseException as error:
            for target in reversed(moved):
                remove(target)
            if (path / _ROOT).read_bytes() != root:
                replace_file(path / _ROOT, root)
            remove(staging)
            if isinstance(error, OSError) and not is_memory_error(error):
                raise output_error(path, error, left=staging) from error
            raise
        remove(staging)


def _moves(staging: Path, path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield from where to where each element goes: with the folder of its kind where the store has none."""
    for kind in _KINDS:
        if not (staging / kind).is_dir():
            continue
        if not (path / kind).exists():
            yield staging / kind, path / kind
        else:
            yield from ((staging / kind / name, path / kind / name) for name in _elements(staging / kind))


def _elements(folder: Path) -> list[str]:
    return sorted(element.name for element in folder.iterdir() if element.is_dir())


def _name_elements(path: Path, staging: Path) -> None:
    """Enter the new elements into the root metadata, where the store keeps the metadata of all elements there."""
    root = json.loads((path / _ROOT).read_bytes())
    known = _consolidated(root)
    if known is None:
        return
    fresh = _consolidated(json.loads((staging / _ROOT).read_bytes())) or {}
    whole = {**fresh, **known}
    # Zarr reads them only where the children of a group follow each other.
    keys = sorted(whole, key=lambda key: (key.count("/"), key.rpartition("/")[0], key))
    root["consolidated_metadata"]["metadata"] = {key: whole[key] for key in keys}
    replace_file(path / _ROOT, json.dumps(root, indent=2).encode())


def _consolidated(root: dict[str, Any]) -> dict[str, Any] | None:
    block = root.get("consolidated_metadata")
    return block.get("metadata") if isinstance(block, dict) else None


def _recover(path: Path, staging: Path) -> None:
    """Finish or take back what a killed process had begun."""
    try:
        names = _consolidated(json.loads((staging / _ROOT).read_bytes())) or {}
    except (OSError, ValueError, AttributeError):
        names = {}  # killed while it wrote the sibling: nothing had been moved
    elements = [tuple(key.split("/")) for key in names if key.count("/") == 1]
    # A name that is not ours is no leftover of this package, whatever lies in the sibling.
    ours = [path / kind / name for kind, name in elements if kind in _KINDS and _OURS.fullmatch(name)]
    last = max((_KINDS.index(place.parent.name) for place in ours), default=-1)
    marks = [place for place in ours if _KINDS.index(place.parent.name) == last]
    if marks and all(place.is_dir() for place in marks):
        _name_elements(path, staging)
    else:
        for place in ours:
            remove(place)
            if place.parent.is_dir() and [child.name for child in place.parent.iterdir()] == [_ROOT]:
                _remove_empty_kind(path, place.parent)
    remove(staging)


def _remove_empty_kind(path: Path, folder: Path) -> None:
    """Remove the folder of a kind that came with the element, unless the store itself knows it."""
    known = _consolidated(json.loads((path / _ROOT).read_bytes()))
    if known is not None and folder.name not in known:
        remove(folder)


def _escaped(name: str) -> str:
    """Protect a name from being read as a pattern."""
    return re.sub(r"([*?[])", r"[\1]", name)
