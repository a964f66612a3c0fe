"""Store classes of pixels, such as domains, with a result: a column of its table, and a labels element."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_srast._utils.text import first_line
from napari_srast.core.result import UpsampleMetadata
from napari_srast.errors import InputError, OutputError, is_memory_error
from napari_srast.io.atomic import output_error, remove, replace_file, write_lock
from napari_srast.io.element_selection import RESULT_PREFIX
from napari_srast.io.result_images import to_dense_image
from napari_srast.io.result_reader import list_runs
from napari_srast.io.store import element_name, quiet_writing, write_store
from napari_srast.io.store_merge import merge_locked
from napari_srast.io.transforms import to_affines
from napari_srast.io.zarr_writes import settled_writes

__all__ = ["PixelClasses", "add_pixel_classes", "read_pixel_classes"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_ROOT = "zarr.json"
_WAIT = 30.0  # seconds for another process that writes to the store


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelClasses:
    """Classes of the pixels of a result, as a store contains them.

    Parameters
    ----------
    labels
        Class of each pixel, shape (Q,).
    settings
        How the classes were computed.
    """

    labels: pd.Categorical
    settings: Mapping[str, Any]


def read_pixel_classes(
    path: Path, run: str, *, on_damage: Callable[[InputError], None] | None = None
) -> dict[str, PixelClasses]:
    """Read the classes that :func:`add_pixel_classes` has added to a run, by name, in the order of the columns.

    Parameters
    ----------
    path
        The store of the result.
    run
        Name of the run.
    on_damage
        Called with the error of each damaged column, which is then left out. None: the first one is raised.

    Raises
    ------
    InputError
        There is no such store, or a column is damaged.
    """
    import zarr
    from anndata.io import read_elem

    runs = list_runs(path)
    if run not in runs:
        return {}
    table = path / "tables" / runs[run]
    obs, uns = (zarr.open_group(table / part, mode="r", use_consolidated=False) for part in ("obs", "uns"))
    found, columns = {}, obs.attrs.get("column-order", ())
    for name in map(str, columns if isinstance(columns, Sequence) else ()):
        if not ((table / "uns" / name).is_dir() and (table / "obs" / name / "categories").is_dir()):
            continue
        try:
            labels: Any = read_elem(obs[name])
            settings: Any = read_elem(uns[name])
        except Exception as error:
            if is_memory_error(error):
                raise
            damage = InputError(
                f"'{name}' of run '{run}' in '{path}' is damaged ({first_line(error)}); restore the store from a copy, "
                "or save them again under another name."
            )
            if on_damage is None:
                raise damage from error
            on_damage(damage)
            continue
        if isinstance(settings, Mapping) and isinstance(labels, pd.Categorical):
            found[name] = PixelClasses(labels=labels, settings=settings)
    return found


def add_pixel_classes(
    result: UpsampleMetadata, path: Path, name: str, classes: pd.Categorical, settings: Mapping[str, Any]
) -> Path:
    """Add classes to the store of a result.

    The column is complete before the table's metadata list it; the labels element comes last.

    Parameters
    ----------
    result
        The result.
    path
        Its ``.zarr`` store.
    name
        Name of the column in ``obs`` and of the entry in ``uns``; the labels element is ``srast_<run>_<name>``.
    classes
        Class of each pixel, shape (Q,). In the labels, the first category is 1, and 0 is outside.
    settings
        How the classes were computed; goes to ``uns[name]``.

    Raises
    ------
    InputError
        The store does not contain the result.
    OutputError
        The name is invalid or exists already, or the store cannot be written; it is then unchanged.
    """
    if not _NAME.fullmatch(name):
        raise OutputError(f"'{name}' is not a name; use a letter, followed by letters, digits and underscores.")
    if path.suffix.casefold() == ".h5ad":
        raise InputError(f"'{path}' cannot store labels; write the result as a .zarr store, and name that.")
    path = path.resolve()
    runs = list_runs(path)
    if result.run not in runs:
        raise InputError(
            f"'{path}' holds no run '{result.run}'; write the result to it first, or name the store that holds it."
        )
    table = path / "tables" / runs[result.run]
    labels = f"{RESULT_PREFIX}{element_name(result.run)}_{name}"
    _check_pixels(table, result)
    with write_lock(path, wait=_WAIT):  # until the end, so that nobody else writes what a failure would revert
        if (path / "labels" / labels).exists() or any((table / part / name).exists() for part in ("obs", "uns")):
            raise OutputError(f"'{path}' already holds '{name}' for run '{result.run}'; choose another name.")
        before = {file: file.read_bytes() for file in (path / _ROOT, table / "obs" / _ROOT)}
        try:
            _write_column(table, name, classes, settings)
            _list_nodes(path, table, [f"{part}/{name}" for part in ("obs", "uns")])
            merge_locked(path, {"labels": [labels]}, lambda staging: _write_labels(result, staging, labels, classes))
        except BaseException as error:
            for file, content in before.items():
                if file.read_bytes() != content:
                    replace_file(file, content)
            for part in ("obs", "uns"):
                remove(table / part / name)
            if isinstance(error, OSError) and not is_memory_error(error):
                raise output_error(path, error) from error
            raise
    return path


def _check_pixels(table: Path, result: UpsampleMetadata) -> None:
    """Check that the table has the pixels of the result, in their order."""
    import zarr

    stored = zarr.open_group(table / "obs", mode="r", use_consolidated=False)
    for key, expected in (("row", result.raster.row), ("col", result.raster.col)):
        if not np.array_equal(np.asarray(stored[key]), expected):
            raise InputError(
                f"The run '{result.run}' in '{table.parents[1]}' has other pixels; read the result from this store."
            )


def _write_column(table: Path, name: str, classes: pd.Categorical, settings: Mapping[str, Any]) -> None:
    """Write the column and its settings, then list the column in the metadata of ``obs``."""
    import zarr
    from anndata.io import write_elem

    with quiet_writing(), settled_writes():
        for part, value in (("obs", classes), ("uns", dict(settings))):
            write_elem(zarr.open_group(table / part, mode="r+", use_consolidated=False), name, value)
    node = json.loads((table / "obs" / _ROOT).read_bytes())
    node["attributes"]["column-order"] = [*node["attributes"]["column-order"], name]
    replace_file(table / "obs" / _ROOT, json.dumps(node, indent=2).encode())


def _list_nodes(path: Path, table: Path, new: list[str]) -> None:
    """Add new nodes of a table to the consolidated metadata in the root of the store, if it has them."""
    root = json.loads((path / _ROOT).read_bytes())
    block = root.get("consolidated_metadata")
    if not isinstance(block, dict):
        return
    files = [table / "obs" / _ROOT, *(file for node in new for file in sorted((table / node).rglob(_ROOT)))]
    added = {file.parent.relative_to(path).as_posix(): json.loads(file.read_bytes()) for file in files}
    merged = {**block["metadata"], **added}
    # Zarr requires that the children of a group follow each other.
    keys = sorted(merged, key=lambda key: (key.count("/"), key.rpartition("/")[0], key))
    block["metadata"] = {key: merged[key] for key in keys}
    replace_file(path / _ROOT, json.dumps(root, indent=2).encode())


def _write_labels(result: UpsampleMetadata, staging: Path, name: str, classes: pd.Categorical) -> None:
    import dask.array as da
    import spatialdata
    from spatialdata.models import Labels2DModel

    image = to_dense_image(result.raster, classes.codes.astype(np.int32) + 1, np.int32)
    element = Labels2DModel.parse(
        da.from_array(image, chunks=2048),
        dims=("y", "x"),
        transformations=to_affines(result.slide.transforms, first=result.raster.affine),
    )
    write_store(spatialdata.SpatialData(labels={name: element}), staging)
