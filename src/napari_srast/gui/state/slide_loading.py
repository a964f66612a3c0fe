"""Read slides and results in a background thread, with the alternatives that their source offers."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_srast._utils.gpu_presence import may_have_gpu
from napari_srast.core.mass_balance import gene_totals
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.errors import ChoiceError, InputError
from napari_srast.gui.runtime.run_modules import import_run_modules
from napari_srast.gui.state.displayed_result import DisplayedResult, prepare_for_display, with_saved_domains
from napari_srast.gui.state.spatial_structure import spatial_structure
from napari_srast.gui.state.spot_grid import spot_grid
from napari_srast.io.file_kinds import has_suffix

if TYPE_CHECKING:
    import spatialdata

__all__ = [
    "Choices",
    "ExternalSlide",
    "LoadedSlide",
    "SpotSummary",
    "external_slides",
    "load",
    "load_run",
    "load_sample",
]


_ENTRIES_AT_ONCE = 1_000_000  # of the counts; the spatial structure of more is computed when the slide is shown


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Alternatives that a SpatialData store offers.

    Parameters
    ----------
    spots, tables, images
        Names of elements that a slide can be made of.
    sections
        Names of the sections of the table; empty if it has one.
    runs
        Names of saved results.
    cells
        Names of labels and shapes that may be cells.
    contents
        Names of the elements in each coordinate system.
    """

    spots: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    contents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SpotSummary:
    """Medians over the spots of a slide.

    Parameters
    ----------
    counts, genes
        Counts, and genes with counts, of a typical spot.
    empty
        Number of spots without counts.
    """

    counts: float
    genes: float
    empty: int

    @classmethod
    def of(cls, slide: Slide) -> SpotSummary:
        """Summarize the spots of a slide."""
        counts = np.asarray(slide.counts.sum(axis=1, dtype=np.float64)).ravel()
        genes = np.asarray(slide.counts.getnnz(axis=1))
        return cls(counts=float(np.median(counts)), genes=float(np.median(genes)), empty=int((counts == 0).sum()))


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedSlide:
    """A slide that was read, its source, and the alternatives that the source offers.

    Parameters
    ----------
    slide
        The slide.
    source
        Path or SpatialData object; None if the slide cannot be read again.
    choices
        Alternatives that the source offers.
    devices
        Compute devices of this computer.
    structure
        Spatial structure of each gene, shape (G,); None if it was not computed: that of a large slide takes longer
        than reading it, so it is computed when the slide is shown.
    totals
        Counts of each gene, shape (G,); None if they were not computed.
    spots
        Medians over the spots; None if they were not computed.
    result
        The result, if the source is a result.
    name
        Name of the slide in the window; None for that of its store.
    """

    slide: Slide
    source: Any
    choices: Choices = field(default_factory=Choices)
    devices: tuple[str, ...] = ("auto", "cpu")
    structure: np.ndarray | None = None
    totals: np.ndarray | None = None
    spots: SpotSummary | None = None
    result: DisplayedResult | None = None
    name: str | None = None


@dataclass(frozen=True, eq=False)
class ExternalSlide:
    """A SpatialData object that napari-spatialdata shows.

    Parameters
    ----------
    sdata
        The object.
    coordinate_system
        The coordinate system in which it is shown; None if unknown.
    layers
        Its layers in the viewer.
    """

    sdata: spatialdata.SpatialData
    coordinate_system: str | None
    layers: tuple[Layer, ...]


def load(source: str | Path | spatialdata.SpatialData, **elements: str | None) -> LoadedSlide:
    """Read a slide, or a result with its slide.

    Parameters
    ----------
    source
        Path, or SpatialData object in memory. From a store that holds only results the newest one is read.
    elements
        Names of the chosen elements: ``spots``, ``table``, ``image``, ``coordinate_system``, ``library``, ``counts``.
        None: the default.

    Raises
    ------
    ChoiceError
        Several elements or sections match, and none was named.
    """
    damage: list[str] = []
    result = _read_result_store(source, damage.append) if isinstance(source, str | Path) else None
    if result is not None:
        path = result.slide.source.path
        displayed = with_saved_domains(prepare_for_display(result), str(source), notices=damage)
        return _loaded(result.slide, path if path is not None and Path(path).exists() else None, displayed)
    chosen = {key: value for key, value in elements.items() if value is not None}
    slide, store = _read_slide(source, chosen)
    return _loaded(slide, source, None, store)


def load_run(slide: Slide, run: str, should_stop: Callable[[], bool] | None = None) -> DisplayedResult:
    """Read a result, with its domains, from the SpatialData store of an open slide.

    Parameters
    ----------
    slide
        The slide; it was read from a path.
    run
        Name of the saved run.
    should_stop
        Returns True once the work should end.
    """
    from napari_srast.io.result_reader import read_result

    assert slide.source.path is not None
    damage: list[str] = []
    displayed = prepare_for_display(read_result(slide.source.path, run, on_damage=damage.append)).on(slide)
    return with_saved_domains(displayed, slide.source.path, should_stop, notices=damage)


def load_sample() -> LoadedSlide:
    """Generate the built-in synthetic slide."""
    from napari_srast.datasets.synthetic_colon import synthetic_colon_path

    return load(synthetic_colon_path())


def external_slides(layers: Iterable[Layer]) -> list[ExternalSlide]:
    """Return the SpatialData objects of napari-spatialdata's layers; their metadata is only read."""
    groups: dict[int, list[Layer]] = {}
    for layer in layers:
        if layer.metadata.get("sdata") is not None:
            groups.setdefault(id(layer.metadata["sdata"]), []).append(layer)
    return [ExternalSlide(g[0].metadata["sdata"], g[0].metadata.get("_current_cs"), tuple(g)) for g in groups.values()]


def _read_slide(
    source: str | Path | spatialdata.SpatialData, chosen: dict[str, str]
) -> tuple[Slide, spatialdata.SpatialData]:
    """Read a slide, and return it with its open store, because opening a large one takes seconds."""
    from napari_srast.io.slide_reader import read_slide
    from napari_srast.io.store import open_store

    if not isinstance(source, str | Path):
        return read_slide(source, **chosen), source
    store, skipped = open_store(source)
    try:
        slide = read_slide(store, **chosen)
    except ChoiceError:
        raise
    except InputError:
        if not skipped:
            raise
        return read_slide(source, **chosen), store  # its message names the elements that were skipped
    return dataclasses.replace(slide, notices=(*skipped, *slide.notices)), store


def _loaded(
    slide: Slide,
    source: Any,
    result: DisplayedResult | None,
    store: spatialdata.SpatialData | None = None,
) -> LoadedSlide:
    from napari_srast.io.cell_reader import cell_elements
    from napari_srast.io.element_selection import slide_choices
    from napari_srast.io.slide_reader import list_sections
    from napari_srast.io.store import open_store

    choices = Choices()
    if source is not None:
        if store is None:
            store = open_store(source)[0] if isinstance(source, str | Path) else source
        elements = slide_choices(store)
        choices = Choices(
            spots=elements.spots,
            tables=elements.tables,
            images=elements.images,
            sections=list_sections(store, slide),
            runs=_list_runs(source),
            cells=cell_elements(store, slide),
            contents=elements.contents,
        )
    spot_grid(slide)  # made here, because it takes a moment for a large slide
    return LoadedSlide(
        slide=slide,
        source=source,
        choices=choices,
        devices=("auto", *_devices()),
        structure=spatial_structure(slide) if result is not None or slide.counts.nnz <= _ENTRIES_AT_ONCE else None,
        totals=gene_totals(slide.counts),
        spots=SpotSummary.of(slide),
        result=result,
    )


def _devices() -> tuple[str, ...]:
    """Return the devices of this computer, without importing PyTorch for one that has no GPU."""
    if "torch" not in sys.modules and not may_have_gpu():
        return ("cpu",)
    import_run_modules()
    from napari_srast._utils.devices import available_devices

    return available_devices()


def _list_runs(source: Any) -> tuple[str, ...]:
    from napari_srast.io.result_reader import list_runs

    path = Path(source) if isinstance(source, str | Path) else getattr(source, "path", None)
    if path is None or not (Path(path) / "zarr.json").exists():
        return ()
    return tuple(list_runs(path))


def _read_result_store(path: str | Path, on_damage: Callable[[str], None]) -> UpsampleResult | None:
    """Read a path that holds only results; return None for slides and for paths that cannot be read."""
    from napari_srast.io.element_selection import slide_choices
    from napari_srast.io.result_reader import read_result

    path = Path(path)
    if has_suffix(path, ".h5ad") and path.is_file():
        try:
            return read_result(path)
        except InputError:
            return None  # the slide reader reports the error
    runs = _list_runs(path)
    if not runs or slide_choices(path).tables:
        return None
    return read_result(path, runs[-1], on_damage=on_damage)
