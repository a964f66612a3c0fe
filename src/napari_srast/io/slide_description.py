"""Describe the slide and the results in a SpatialData store."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast.errors import InputError, translate_memory_errors
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.element_selection import result_runs
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import open_store

__all__ = ["SlideDescription", "describe_slide"]


@dataclass(frozen=True, kw_only=True)
class SlideDescription:
    """Description of a slide as printed by ``napari-srast info``; every field can be converted to JSON.

    Parameters
    ----------
    path
        Path of the store.
    elements
        Names of all images, labels, points, shapes and tables, by kind.
    results
        Table, size, method and slide of each result in the store, by name of the run.
    usable
        Whether the slide can be upsampled without further choices.
    problems
        Reasons why it cannot be upsampled, one sentence each.
    notices
        Assumptions and corrections of the reader, one sentence each.
    spots, table, image, coordinate_system
        Names of the elements that are used.
    coordinate_systems
        Names of the spots' coordinate systems.
    n_spots, n_genes, median_counts
        Number of spots and genes, and median total counts of a spot.
    lattice, pitch, spot_diameter, unit
        Lattice, pitch and diameter of the spots; lengths in ``unit``, in the spots' intrinsic coordinates.
    image_size
        Width and height of the image in pixels.
    genes
        Names of the first 50 genes.
    synthetic
        Whether the slide is simulated.
    """

    path: str
    elements: dict[str, list[str]]
    results: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    usable: bool = False
    problems: list[str] = dataclasses.field(default_factory=list)
    notices: list[str] = dataclasses.field(default_factory=list)
    spots: str | None = None
    table: str | None = None
    image: str | None = None
    coordinate_system: str | None = None
    coordinate_systems: list[str] = dataclasses.field(default_factory=list)
    n_spots: int = 0
    n_genes: int = 0
    median_counts: float = 0.0
    lattice: str | None = None
    pitch: float | None = None
    spot_diameter: float | None = None
    unit: str = "unknown"
    image_size: list[int] | None = None
    genes: list[str] = dataclasses.field(default_factory=list)
    synthetic: bool = False


@translate_memory_errors("while reading the slide", "take a smaller one")
def describe_slide(path: str | Path, **choices: str | None) -> SlideDescription:
    """Describe a slide, and why it cannot be upsampled if this is so.

    Parameters
    ----------
    path
        Path of the store.
    choices
        ``spots``, ``table``, ``image`` and ``coordinate_system``, as for :func:`read_slide`.

    Raises
    ------
    InputError
        There is no SpatialData store at the path. Problems of its content are in ``problems``.
    """
    store, skipped = open_store(path)
    elements: dict[str, list[str]] = {kind: [] for kind in ("images", "labels", "points", "shapes", "tables")}
    for kind, name, _ in store.gen_elements():
        elements[kind].append(name)
    results = result_runs(store)
    try:
        slide = read_slide(store, **choices)
        lattice = detect_lattice(slide.centers, slide.spot_diameter)
    except InputError as error:
        return SlideDescription(
            path=str(path), elements=elements, results=results, problems=[str(error)], notices=list(skipped)
        )
    image = slide.image
    return SlideDescription(
        path=str(path),
        elements=elements,
        results=results,
        usable=True,
        notices=[*skipped, *slide.notices],
        spots=slide.source.spots,
        table=slide.source.table,
        image=slide.source.image,
        coordinate_system=slide.coordinate_system,
        coordinate_systems=list(slide.transforms),
        n_spots=slide.n_spots,
        n_genes=slide.n_genes,
        median_counts=_median_counts(slide.counts),
        lattice=lattice.kind,
        pitch=lattice.pitch,
        spot_diameter=slide.spot_diameter,
        unit=slide.unit,
        image_size=None if image is None else [int(image.levels[0].shape[2]), int(image.levels[0].shape[1])],
        genes=[str(gene) for gene in slide.genes[:50]],
        synthetic=slide.source.synthetic,
    )


def _median_counts(counts: sparse.csr_matrix) -> float:
    return float(np.median(np.asarray(counts.sum(axis=1, dtype=np.float64))))
