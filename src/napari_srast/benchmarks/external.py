"""Run published packages that solve the same problem, for ``napari-srast bench --peers``.

None of them is a dependency. Each is imported when it is measured and called as its authors call it. Inputs that they
need in addition to a slide of spots are synthesized here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import shapely

from napari_srast._utils.quiet import suppress_output
from napari_srast.core.slide import Slide
from napari_srast.errors import SettingsError
from napari_srast.evaluation.peers.tobler import interpolate
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.raster import Raster, make_raster

__all__ = ["EXTERNAL_METHODS", "ExternalMethod", "require_external_methods", "run_external_method"]

_PITCH_PIXELS = 100  # pixels of the synthetic image per pitch: Visium's 100 um at 1 um per pixel


@dataclass(frozen=True, kw_only=True)
class ExternalMethod:
    """A published package and how it is called.

    Parameters
    ----------
    module
        Name of the module to import.
    install
        Commands that install the package, in order.
    run
        Function from the module, a slide and its raster to the values of the raster's pixels, shape (Q, G).
    """

    module: str
    install: tuple[str, ...]
    run: Callable[[Any, Slide, Raster], np.ndarray]


def require_external_methods(names: Sequence[str]) -> None:
    """Check that external methods can run, before anything is measured.

    Parameters
    ----------
    names
        Keys of :data:`EXTERNAL_METHODS`.

    Raises
    ------
    SettingsError
        A name is unknown, or its package is not installed.
    """
    for name in names:
        if name not in EXTERNAL_METHODS:
            raise SettingsError(f"The method '{name}' is unknown; choose among: {', '.join(EXTERNAL_METHODS)}.")
        _load(name)


def run_external_method(name: str, slide: Slide, factor: float) -> np.ndarray:
    """Upsample all spots of a slide by an external method, without its output on the terminal.

    Parameters
    ----------
    name
        Key of :data:`EXTERNAL_METHODS`.
    slide
        The slide. Its image is not used.
    factor
        Pixels per pitch.

    Returns
    -------
    np.ndarray
        Values of all pixels of the slide's raster and all genes, shape (Q, G), in the method's own scale.

    Raises
    ------
    SettingsError
        The method is unknown or not installed.
    """
    require_external_methods([name])
    raster = make_raster(slide.centers, factor=factor, spot_diameter=slide.spot_diameter)
    with suppress_output():
        return EXTERNAL_METHODS[name].run(_load(name), slide, raster)


def _load(name: str) -> ModuleType:
    try:
        with suppress_output():
            return importlib.import_module(EXTERNAL_METHODS[name].module)
    except ImportError as error:
        missing = error.name or EXTERNAL_METHODS[name].module
        commands = " and then ".join(f"'{command}'" for command in EXTERNAL_METHODS[name].install)
        raise SettingsError(f"The method '{name}' needs {missing}; install it with {commands}.") from error


class _IntegerIndexedTable:
    """Table that TESLA fills. TESLA indexes rows by number, but AnnData 0.12 and later turns row names into text."""

    obs: Any
    var: Any

    def __init__(self, values: np.ndarray) -> None:
        self.X, self.shape = values, values.shape


def _tesla(package: Any, slide: Slide, raster: Raster) -> np.ndarray:
    """Impute by TESLA on a synthetic image; only its time and memory are meaningful.

    TESLA's superpixels are at multiples of ``res``, and it calls the rows x. The image has ``res`` pixels along a pixel
    of the raster and a margin of one raster pixel, so the superpixels are the raster's pixels.
    """
    import anndata
    import pandas as pd

    res = max(round(_PITCH_PIXELS * raster.pixel_size / raster.lattice.pitch), 1)
    n_rows, n_cols = raster.shape
    down, across = np.linspace(0, 255, (n_rows + 1) * res), np.linspace(0, 255, (n_cols + 1) * res)
    image = np.stack(np.broadcast_arrays(down[:, None], across, (down[:, None] + across) / 2), axis=-1).astype(np.uint8)
    position = (apply_affine(np.linalg.inv(raster.affine), slide.centers) + 0.5) * res
    corners = [((raster.col + 1 + x) * res, (raster.row + 1 + y) * res) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    hull = shapely.MultiPoint(np.concatenate(corners, axis=1).T).convex_hull
    outline = shapely.get_coordinates(hull)[:-1].astype(np.int32)[:, None]
    spots = pd.DataFrame({"pixel_x": position[:, 1], "pixel_y": position[:, 0]}, index=slide.spot_ids.astype(str))
    genes = slide.genes.astype(str)
    table = anndata.AnnData(X=slide.counts.toarray(), obs=spots, var=pd.DataFrame(index=genes))
    with mock.patch.object(package, "AnnData", _IntegerIndexedTable):
        imputed = package.imputation(
            img=image, raw=table, cnt=outline, genes=list(genes), shape="None", res=res, s=1, k=2, num_nbs=10
        )
    row_of_pixel = np.full(raster.shape, -1)
    row, col = imputed.obs["x"].to_numpy() // res - 1, imputed.obs["y"].to_numpy() // res - 1
    row_of_pixel[row, col] = np.arange(len(row))
    return np.asarray(imputed.X)[row_of_pixel[raster.row, raster.col]]


def _tobler(package: Any, slide: Slide, raster: Raster) -> np.ndarray:
    return interpolate(slide, raster)


EXTERNAL_METHODS: Mapping[str, ExternalMethod] = {
    "tesla": ExternalMethod(
        module="TESLA.imputation",
        install=("pip install scanpy numba opencv-python-headless", "pip install --no-deps TESLAforST==1.2.2"),
        run=_tesla,
    ),
    "tobler": ExternalMethod(module="tobler.pycno.pycno", install=("pip install tobler==0.13.0",), run=_tobler),
}
"""External methods by the name that the command line uses."""
