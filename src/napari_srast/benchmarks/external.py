"""Published packages that split spots, too, for ``napari-srast bench`` to measure beside the model.

None of them is a dependency: each is imported when it is measured, and called as its authors call it. What they need
beside a slide of spots is made up here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import shapely

from napari_srast.core.slide import Slide
from napari_srast.errors import SettingsError
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.raster import Raster, make_raster

__all__ = ["PEERS", "Peer", "check_peers", "run_peer"]

_PITCH_PIXELS = 100  # of the made image along a pitch: Visium's 100 um at 1 um a pixel


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A published package and how it is called.

    Parameters
    ----------
    module
        What is imported of it.
    install
        The commands that install it, in their order.
    split
        Takes that module, a slide and its raster; returns the values of the raster's pixels, shape (Q, G).
    """

    module: str
    install: tuple[str, ...]
    split: Callable[[Any, Slide, Raster], np.ndarray]


def check_peers(names: Sequence[str]) -> None:
    """Refuse peers that are not known or not installed, before anything is measured.

    Raises
    ------
    SettingsError
        A name is not one of :data:`PEERS`, or its package is not installed.
    """
    for name in names:
        if name not in PEERS:
            raise SettingsError(f"There is no peer '{name}' to measure; choose among: {', '.join(PEERS)}.")
        _load(name)


def run_peer(name: str, slide: Slide, factor: float) -> np.ndarray:
    """Let a peer split the counts of all spots, without a word on the terminal.

    Parameters
    ----------
    name
        One of :data:`PEERS`.
    slide
        Its image, if any, is not used.
    factor
        Pixels along a pitch.

    Returns
    -------
    np.ndarray
        Values of all pixels of the slide's raster and all genes, shape (Q, G), in the peer's own scale.

    Raises
    ------
    SettingsError
        The peer is not known or not installed.
    """
    check_peers([name])
    raster = make_raster(slide.centers, factor=factor, spot_diameter=slide.spot_diameter)
    with _silence():
        return PEERS[name].split(_load(name), slide, raster)


def _load(name: str) -> ModuleType:
    try:
        with _silence():
            return importlib.import_module(PEERS[name].module)
    except ImportError as error:
        missing = error.name or PEERS[name].module
        commands = " and then ".join(f"'{command}'" for command in PEERS[name].install)
        raise SettingsError(f"The peer '{name}' needs {missing}; install it with {commands}.") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what the peers print, and what Python warns them of, from the figures."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Imputed:
    """The table that TESLA fills: it asks for rows by number, and from 0.12 on anndata turns their names into text."""

    obs: Any
    var: Any

    def __init__(self, values: np.ndarray) -> None:
        self.X, self.shape = values, values.shape


def _tesla(package: Any, slide: Slide, raster: Raster) -> np.ndarray:
    """Impute by TESLA on an image that is made up, so that only time and memory mean anything.

    TESLA lays its superpixels at multiples of ``res`` and calls rows x. The image has ``res`` pixels along a pixel of
    the raster and a margin of one, so that the superpixels are the raster's pixels.
    """
    import anndata
    import pandas as pd

    res = max(round(_PITCH_PIXELS * raster.pixel_size / raster.lattice.pitch), 1)
    n_rows, n_cols = raster.shape
    down, across = np.linspace(0, 255, (n_rows + 1) * res), np.linspace(0, 255, (n_cols + 1) * res)
    image = np.stack(np.broadcast_arrays(down[:, None], across, (down[:, None] + across) / 2), axis=-1).astype(np.uint8)
    place = (apply_affine(np.linalg.inv(raster.affine), slide.centers) + 0.5) * res
    corners = [((raster.col + 1 + x) * res, (raster.row + 1 + y) * res) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    hull = shapely.MultiPoint(np.concatenate(corners, axis=1).T).convex_hull
    outline = shapely.get_coordinates(hull)[:-1].astype(np.int32)[:, None]
    spots = pd.DataFrame({"pixel_x": place[:, 1], "pixel_y": place[:, 0]}, index=slide.spot_ids.astype(str))
    genes = slide.genes.astype(str)
    table = anndata.AnnData(X=slide.counts.toarray(), obs=spots, var=pd.DataFrame(index=genes))
    with mock.patch.object(package, "AnnData", _Imputed):
        done = package.imputation(
            img=image, raw=table, cnt=outline, genes=list(genes), shape="None", res=res, s=1, k=2, num_nbs=10
        )
    found = np.full(raster.shape, -1)
    row, col = done.obs["x"].to_numpy() // res - 1, done.obs["y"].to_numpy() // res - 1
    found[row, col] = np.arange(len(row))
    return np.asarray(done.X)[found[raster.row, raster.col]]


def _tobler(package: Any, slide: Slide, raster: Raster) -> np.ndarray:
    """Interpolate by tobler, a gene at a time, over the pixels that the raster gives each spot, in units of pixels.

    It divides 0 by 0 where all is 0 around a spot without counts; those pixels are 0 here.
    """
    import geopandas

    squares = shapely.box(raster.col, -raster.row - 1.0, raster.col + 1.0, -raster.row)
    groups = np.split(squares[np.argsort(raster.parent)], np.cumsum(raster.counts_per_spot)[:-1])
    zones = geopandas.GeoDataFrame(geometry=[shapely.union_all(group) for group in groups])
    values = np.empty((raster.n_pixels, slide.n_genes))
    for gene in range(slide.n_genes):
        zones["counts"] = slide.counts[:, [gene]].toarray().ravel().astype(float)
        image, _, _ = package.pycno(zones, "counts", cellsize=1, r=0.2, handle_null=False, converge=3, verbose=False)
        values[:, gene] = image[raster.row, raster.col]
    return np.nan_to_num(values)


PEERS: Mapping[str, Peer] = {
    "tesla": Peer(
        module="TESLA.imputation",
        install=("pip install scanpy numba opencv-python-headless", "pip install --no-deps TESLAforST==1.2.2"),
        split=_tesla,
    ),
    "tobler": Peer(module="tobler.pycno.pycno", install=("pip install tobler==0.13.0",), split=_tobler),
}
