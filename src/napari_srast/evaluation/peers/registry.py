"""List the peers, check that they are installed, and run one on a slide.

A peer predicts an intensity for every pixel and gene, up to a factor. The evaluation divides each spot's counts in
proportion to it, and scores the intensity itself as expression. Shape legend: N spots, Q pixels, G genes.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from napari_srast._utils.quiet import suppress_output
from napari_srast.core.slide import Slide
from napari_srast.errors import SettingsError
from napari_srast.geometry.raster import Raster

__all__ = ["PEERS", "Peer", "require_peers", "run_peer"]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer and how it is called.

    Parameters
    ----------
    package
        Module that must be importable; None if the peer needs no other package.
    function
        ``module:name`` of a function from a slide and its raster to non-negative intensities, shape (Q, G).
    install
        Command that installs the package.
    needs_image
        Whether the peer predicts from the histology image.
    """

    package: str | None
    function: str
    install: str = "pip install 'napari-srast[peers]'"
    needs_image: bool = False


_HERE = "napari_srast.evaluation.peers"

PEERS: Mapping[str, Peer] = {
    "smoother": Peer(package="smoother.models.impute", function=f"{_HERE}.smoother:impute"),
    "smoothie": Peer(package="smoothie", function=f"{_HERE}.smoothie:smooth"),
    "gaston": Peer(package="gaston.neural_net", function=f"{_HERE}.gaston:fit"),
    "tobler": Peer(package="tobler.pycno.pycno", function=f"{_HERE}.tobler:interpolate"),
    "istar-like": Peer(package=None, function=f"{_HERE}.image_head:predict", needs_image=True),
}
"""Peers by the name that the command line uses."""


def require_peers(names: Sequence[str], *, has_image: bool) -> None:
    """Check that peers can run, before anything is computed.

    Parameters
    ----------
    names
        Keys of :data:`PEERS`.
    has_image
        Whether the slide has an image.

    Raises
    ------
    SettingsError
        A name is unknown, a package is not installed, or a peer needs an image that the slide lacks.
    """
    for name in names:
        if name not in PEERS:
            raise SettingsError(f"The peer '{name}' is unknown; choose among: {', '.join(PEERS)}.")
        peer = PEERS[name]
        if peer.needs_image and not has_image:
            raise SettingsError(f"The peer '{name}' needs an image; give one with --image or leave the peer out.")
        if peer.package is not None:
            _check_installed(name, peer)


def run_peer(name: str, slide: Slide, raster: Raster) -> np.ndarray:
    """Return a peer's intensities in pixels, without its output on the terminal.

    Parameters
    ----------
    name
        Key of :data:`PEERS`.
    slide
        The slide.
    raster
        Pixels of the slide.

    Returns
    -------
    np.ndarray
        Non-negative finite intensities, shape (Q, G).

    Raises
    ------
    SettingsError
        The peer is unknown, not installed, or needs an image.
    """
    require_peers([name], has_image=slide.image is not None)
    function: Callable[[Slide, Raster], np.ndarray] = pkgutil.resolve_name(PEERS[name].function)
    with suppress_output():
        values = np.asarray(function(slide, raster), dtype=np.float64)
    assert values.shape == (raster.n_pixels, slide.n_genes), f"{name} returned an array of shape {values.shape}"
    return np.maximum(np.nan_to_num(values, posinf=0.0), 0.0)


def _check_installed(name: str, peer: Peer) -> None:
    assert peer.package is not None
    try:
        with suppress_output():
            importlib.import_module(peer.package)
    except ImportError as error:
        missing = error.name or peer.package
        raise SettingsError(f"The peer '{name}' needs {missing}; install it with: {peer.install}") from error
