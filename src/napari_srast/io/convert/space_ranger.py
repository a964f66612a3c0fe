"""Read Space Ranger folders (Visium, Visium HD) with spatialdata-io, and convert them to micrometers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_srast._utils.text import first_line
from napari_srast.errors import InputError, is_memory_error
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.convert.images import check_spots_on_image, multiscale_image, read_image_file
from napari_srast.io.element_selection import SLIDE_KEY
from napari_srast.io.spots import read_spots
from napari_srast.io.store import element_name
from napari_srast.io.transforms import element_matrices, to_affines

if TYPE_CHECKING:
    import spatialdata

__all__ = ["is_space_ranger", "read_space_ranger"]

_VISIUM_PITCH_UM = 100.0  # by the design of Visium slides
_VISIUM_SPOT_UM = 55.0  # by the same design; Space Ranger states the diameter of a "theoretical 65 um spot"
_DEFAULT_BIN_UM = 8
_UM = "global"  # coordinate system in micrometers


def is_space_ranger(path: Path) -> bool:
    """Return whether a folder was written by Space Ranger: the ``outs`` folder or its parent."""
    return path.is_dir() and any((_outs(path) / name).is_dir() for name in ("spatial", "binned_outputs"))


def read_space_ranger(
    path: Path, *, image: str | Path | None = None, spot_diameter: float | None = None
) -> spatialdata.SpatialData:
    """Read a Visium or Visium HD folder; the coordinate system "global" is in micrometers.

    Parameters
    ----------
    path
        The ``outs`` folder or its parent.
    image
        The full-resolution image that Space Ranger processed; None reads only the images of the folder.
    spot_diameter
        For Visium the diameter of a spot in micrometers; None is 55. For Visium HD the bin size in micrometers; None is
        8, or the smallest bin size of the folder.

    Raises
    ------
    InputError
        spatialdata-io is not installed, the folder is incomplete, or the spots are not on the image.
    """
    try:
        import spatialdata_io
    except ImportError as error:
        raise InputError(
            'Space Ranger folders need spatialdata-io; install it with: pip install "napari-srast[io]"'
        ) from error
    folder = _outs(path)
    bins = _bins(folder)
    name = element_name(path.parent.name if path.name == "outs" else path.name)
    chosen = _choose_bin(bins, spot_diameter, path) if bins else None
    with (
        warnings.catch_warnings(),
        open(os.devnull, "w") as silence,
        contextlib.redirect_stdout(silence),
    ):
        warnings.simplefilter("ignore")
        try:
            if chosen is None:
                store = spatialdata_io.visium(folder, dataset_id=None if _prefixed(folder) else name)
            else:
                store = spatialdata_io.visium_hd(
                    folder, dataset_id=name, bin_size=chosen, load_segmentations_only=False
                )
        except Exception as error:
            if is_memory_error(error):
                raise
            raise InputError(
                f"'{path}' cannot be read as a Space Ranger folder ({first_line(error)}); "
                "check that it holds the counts (.h5) and the folder 'spatial'."
            ) from error
    for other in [n for n in store.tables if chosen is not None and n != f"square_{chosen:03d}um"]:
        del store.tables[other]
    return _in_micrometers(store, folder, image, chosen, spot_diameter or _VISIUM_SPOT_UM)


def _in_micrometers(
    store: spatialdata.SpatialData, folder: Path, image: str | Path | None, bin_um: int | None, diameter: float
) -> spatialdata.SpatialData:
    """Scale the spots to micrometers, and add the coordinate system "global" in micrometers to all elements."""
    import spatialdata
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import set_transformation

    (table,) = store.tables.values()
    name = str(table.uns["spatialdata_attrs"]["region"])
    element = store.shapes[name]
    if bin_um is None:
        um_per_px = _VISIUM_PITCH_UM / detect_lattice(read_spots(element, name).centers).pitch
    else:
        factors = folder / "binned_outputs" / f"square_{bin_um:03d}um" / "spatial" / "scalefactors_json.json"
        um_per_px = float(json.loads(factors.read_text())["microns_per_pixel"])
    to_um = np.diag([um_per_px, um_per_px, 1.0])
    pixel_systems = element_matrices(element, name)
    full_resolution = next(s for s, matrix in pixel_systems.items() if np.allclose(matrix, np.eye(3)))

    shapes = element.copy()
    shapes.attrs = {}
    shapes["geometry"] = shapely.transform(element.geometry.to_numpy(), lambda points: points * um_per_px)
    if "radius" in shapes:
        shapes["radius"] = element["radius"] * um_per_px if bin_um is not None else diameter / 2
    systems = {_UM: np.eye(3), **{s: m @ np.linalg.inv(to_um) for s, m in pixel_systems.items()}}
    images = dict(store.images)
    for image_name, picture in images.items():
        matrices = element_matrices(picture, image_name)
        matrices[_UM] = to_um @ matrices[full_resolution]
        set_transformation(picture, to_affines(matrices), set_all=True)
    if image is not None:
        pixels = read_image_file(image)
        check_spots_on_image(
            read_spots(element, name).centers,
            pixels.shape[1:],
            Path(image),
            "give the full-resolution image that Space Ranger processed; the smaller ones are read from the folder",
        )
        label = element_name(Path(image).stem)
        label = label if label not in (*images, name, *store.tables) else f"{label}_image"
        images[label] = multiscale_image(pixels, to_affines({_UM: to_um, full_resolution: np.eye(3)}))
    if "spatial" in table.obsm:
        table.obsm["spatial"] = np.asarray(table.obsm["spatial"], dtype=float) * um_per_px
    table.uns[SLIDE_KEY] = {"unit": "um", "source": folder.name, "um_per_full_resolution_pixel": um_per_px}
    return spatialdata.SpatialData(
        images=images,
        shapes={name: ShapesModel.parse(shapes, transformations=to_affines(systems))},
        tables=dict(store.tables),
    )


def _outs(path: Path) -> Path:
    """Return the ``outs`` folder of a run, given this folder or its parent."""
    return path / "outs" if (path / "outs").is_dir() else path


def _prefixed(folder: Path) -> bool:
    """Return whether the name of the data set is part of the file names."""
    return not (folder / "filtered_feature_bc_matrix.h5").exists()


def _bins(folder: Path) -> list[int]:
    """Return the bin sizes of a Visium HD folder in micrometers; an empty list for Visium."""
    names = (re.fullmatch(r"square_(\d+)um", child.name) for child in (folder / "binned_outputs").glob("square_*um"))
    return sorted(int(name[1]) for name in names if name)


def _choose_bin(bins: list[int], option: float | None, path: Path) -> int:
    if option is not None:
        if option not in bins:
            raise InputError(
                f"'{path}' has no bins of {option:g} um; give one of {', '.join(map(str, bins))} as spot diameter."
            )
        return int(option)
    return _DEFAULT_BIN_UM if _DEFAULT_BIN_UM in bins else bins[0]
