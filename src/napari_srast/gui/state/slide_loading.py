"""Reading slides and results in a worker, with the choices they leave open and the devices found meanwhile."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError
from napari_srast.gui.state.displayed_result import DisplayedResult, prepare_for_display
from napari_srast.gui.state.spatial_structure import spatial_structure

if TYPE_CHECKING:
    import spatialdata

__all__ = ["Choices", "ExternalSlide", "LoadedSlide", "load", "load_run", "load_sample", "external_slides"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Elements of a store that a slide could be made of, runs whose results it holds, and what lies in each frame."""

    spots: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    contents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedSlide:
    """A slide that was read, what it was read from, and what else could be chosen there.

    Parameters
    ----------
    slide
        The slide.
    source
        What it was read from; None where it cannot be read again.
    choices
        What else could be chosen.
    devices
        Devices that this computer has.
    structure
        Spatial structure of each gene, shape (G,); None where it was not worked out.
    result
        The result that was opened, where it was one.
    """

    slide: Slide
    source: Any
    choices: Choices = field(default_factory=Choices)
    devices: tuple[str, ...] = ("auto", "cpu")
    structure: np.ndarray | None = None
    result: DisplayedResult | None = None


@dataclass(frozen=True, eq=False)
class ExternalSlide:
    """A SpatialData object that napari-spatialdata shows."""

    sdata: spatialdata.SpatialData
    coordinate_system: str | None
    layers: tuple[Layer, ...]


def load(source: str | Path | spatialdata.SpatialData, **elements: str | None) -> LoadedSlide:
    """Read a slide, or a result with its slide, from a path or from SpatialData in memory.

    ``elements`` name what was chosen of a slide. Of a store that holds nothing but results the newest is opened.
    """
    _load_modules()
    from napari_srast.io.slide_reader import read_slide

    result = _result_at(source) if isinstance(source, str | Path) else None
    if result is not None:
        path = result.slide.source.path
        found = path if path is not None and Path(path).exists() else None
        return _opened(result.slide, found, result)
    given = {key: value for key, value in elements.items() if value is not None}
    return _opened(read_slide(source, **given), source, None)


def _load_modules() -> None:
    """Load all that a run takes.

    Imports hold Python's lock for half a second at a time: better now than while the user watches a run.
    """
    for name in ("io.slide_reader", "models.sasa.embedding", "checkpoints.storage", "inference.methods.srast"):
        importlib.import_module(f"napari_srast.{name}")


def _opened(slide: Slide, source: Any, result: UpsampleResult | None) -> LoadedSlide:
    from napari_srast._utils.devices import available_devices
    from napari_srast.io.element_selection import slide_choices

    choices = Choices()
    if source is not None:
        found = slide_choices(source)
        choices = Choices(
            spots=found.spots,
            tables=found.tables,
            images=found.images,
            runs=_runs_of(source),
            contents=found.contents,
        )
    return LoadedSlide(
        slide=slide,
        source=source,
        choices=choices,
        devices=("auto", *available_devices()),
        structure=spatial_structure(slide),
        result=None if result is None else prepare_for_display(result),
    )


def _runs_of(source: Any) -> tuple[str, ...]:
    from napari_srast.io.result_reader import list_runs

    path = Path(source) if isinstance(source, str | Path) else getattr(source, "path", None)
    if path is None or not (Path(path) / "zarr.json").exists():
        return ()
    return tuple(list_runs(path))


def _result_at(path: str | Path) -> UpsampleResult | None:
    """Return the result at a path, or None where there is a slide, or what only the slides' reader can explain."""
    from napari_srast.io.element_selection import slide_choices
    from napari_srast.io.result_reader import read_result

    path = Path(path)
    if path.suffix == ".h5ad" and path.is_file():
        try:
            return read_result(path)
        except InputError:
            return None
    runs = _runs_of(path)
    if not runs or slide_choices(path).tables:
        return None
    return read_result(path, runs[-1])


def load_run(slide: Slide, run: str) -> DisplayedResult:
    """Read a result that lies in the store of a slide on show."""
    from napari_srast.io.result_reader import read_result

    assert slide.source.path is not None
    return prepare_for_display(read_result(slide.source.path, run)).on(slide)


def load_sample() -> LoadedSlide:
    """Make the built-in synthetic slide."""
    from napari_srast.datasets.synthetic_colon import sample_path

    return load(sample_path())


def external_slides(layers: Iterable[Layer]) -> list[ExternalSlide]:
    """Return the SpatialData objects behind napari-spatialdata's layers; its metadata is only read."""
    groups: dict[int, list[Layer]] = {}
    for layer in layers:
        if layer.metadata.get("sdata") is not None:
            groups.setdefault(id(layer.metadata["sdata"]), []).append(layer)
    return [ExternalSlide(g[0].metadata["sdata"], g[0].metadata.get("_current_cs"), tuple(g)) for g in groups.values()]
