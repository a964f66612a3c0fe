"""Recognize the files and folders that this package opens, by their layout, without reading their data.

The reader of the napari plugin is asked about every folder that is opened, so recognition is quick and loads no large
library. It is precise, too: a Zarr store of another kind, such as OME-Zarr or AnnData, is left to other readers. What
was a slide before it was damaged is recognized, so that its error names what is wrong.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from napari_srast.errors import SrastError

__all__ = [
    "FileKind",
    "enclosing_store",
    "file_kind",
    "has_suffix",
    "is_anndata_file",
    "is_anndata_store",
    "is_result_table",
    "missing_path",
    "store_part_problem",
]

FileKind = Literal["store", "h5ad", "space_ranger", "geojson"]
"""SpatialData store with spots or with results; AnnData file; Space Ranger folder, or its matrix of counts; regions."""

_FOREIGN_KEYS = ("multiscales", "ome", "omero", "plate", "well", "encoding-type", "bioformats2raw.layout")
_ROOT_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zmetadata")
_MAX_ROOT_BYTES = 50_000_000  # of a root's metadata; larger ones are judged by the folders
_WEB_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a path drops the second slash
_RESULT_MARK = "uns/napari_srast/run"


def file_kind(path: str | Path) -> FileKind | None:
    """Return the kind of a file or folder; None if this package does not open it.

    Parameters
    ----------
    path
        The file or folder; it need not exist.
    """
    try:
        path = Path(path)
        if path.is_dir():
            return _folder_kind(path)
        if not path.is_file() or not has_suffix(path, ".h5ad", ".h5", ".geojson"):
            return None
        if has_suffix(path, ".h5"):
            return "space_ranger" if _has_positions(path) else None
        return "h5ad" if has_suffix(path, ".h5ad") else "geojson"
    except (OSError, ValueError):  # a name that the system does not accept, or a folder that may not be entered
        return None


def enclosing_store(path: str | Path) -> Path | None:
    """Return the SpatialData store that a file or folder is part of; None if it is in none, or is a store itself.

    Parameters
    ----------
    path
        The file or folder; it need not exist.
    """
    path = Path(os.path.abspath(path))
    return None if _is_root(path) else next((parent for parent in path.parents if _is_root(parent)), None)


def store_part_problem(path: str | Path) -> str | None:
    """Return why a file or folder inside a SpatialData store is not a slide, and the next step; None elsewhere.

    Parameters
    ----------
    path
        The file or folder; it need not exist.
    """
    whole = enclosing_store(path)
    return None if whole is None else f"'{path}' is a part of the store '{whole}', not a slide; give the store."


def missing_path(path: Path, what: str) -> str:
    """Return the message for a path where nothing is.

    Parameters
    ----------
    path
        The path.
    what
        What was expected there, such as "slide".
    """
    if _WEB_ADDRESS.match(str(path)):
        return f"'{path}' is a web address; download the {what}, and give its path."
    return f"There is no {what} at '{path}'; check the path."


def has_suffix(path: str | Path, *suffixes: str) -> bool:
    """Return whether the name of a file ends in one of the suffixes, in small letters or capitals.

    Parameters
    ----------
    path
        The file or folder; it need not exist.
    suffixes
        Endings in small letters, such as ".h5ad" or ".csv.gz".
    """
    return Path(path).name.casefold().endswith(suffixes)


def is_anndata_store(path: str | Path) -> bool:
    """Return whether a folder is a Zarr store that AnnData has written; False if it cannot be read.

    Parameters
    ----------
    path
        The folder; it need not exist.
    """
    try:
        attributes = _root_attributes(Path(path), set(os.listdir(path)))
    except OSError:
        return False
    return attributes is not None and attributes.get("encoding-type") == "anndata"


def is_anndata_file(path: Path) -> bool:
    """Return whether an HDF5 file has the parts of an AnnData table; False if it cannot be read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return {"obs", "var"} <= set(file)
    except OSError:
        return False


def is_result_table(path: Path) -> bool:
    """Return whether an ``.h5ad`` file is a result of this package; False if it cannot be read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _RESULT_MARK in file
    except OSError:
        return False


def _folder_kind(path: Path) -> FileKind | None:
    names = set(os.listdir(path))
    if has_suffix(path, ".zarr") or names.intersection(_ROOT_FILES):
        return "store" if _is_slide_store(path, names) else None
    from napari_srast.io.convert.space_ranger import is_space_ranger

    return "space_ranger" if is_space_ranger(path) else None


def _has_positions(counts: Path) -> bool:
    """Return whether the folder of a matrix of Space Ranger has the positions of its spots."""
    from napari_srast.io.convert.space_ranger.layout import find_files

    try:
        find_files(counts)
    except SrastError:
        return False
    return True


def _is_slide_store(path: Path, names: set[str]) -> bool:
    """Return whether a Zarr store has the layout of a SpatialData store with spots and a table."""
    attributes = _root_attributes(path, names)
    if attributes is not None and "spatialdata_attrs" not in attributes and attributes.keys() & set(_FOREIGN_KEYS):
        return False
    return _has_element(path / "tables") and (_has_element(path / "shapes") or _has_element(path / "labels"))


def _root_attributes(path: Path, names: set[str]) -> Mapping[str, Any] | None:
    """Return the attributes of the root; None if they are missing or damaged."""
    name = next((file for file in ("zarr.json", ".zattrs") if file in names), None)
    if name is None:
        return None
    file = path / name
    try:
        content = json.loads(file.read_bytes()) if file.stat().st_size <= _MAX_ROOT_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    attributes = content.get("attributes", {}) if name == "zarr.json" and isinstance(content, Mapping) else content
    return attributes if isinstance(attributes, Mapping) else None


def _is_root(path: Path) -> bool:
    """Return whether a folder is the root of a SpatialData store with a table."""
    try:
        attributes = _root_attributes(path, set(os.listdir(path)))
    except OSError:
        return False
    return attributes is not None and "spatialdata_attrs" in attributes and (path / "tables").is_dir()


def _has_element(folder: Path) -> bool:
    """Return whether a folder of elements has at least one."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.is_dir() for entry in entries)
    except OSError:
        return False
