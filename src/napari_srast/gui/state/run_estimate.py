"""Describe what a run will cost, and find changes that make a long run quick."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_srast._utils.text import count
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.gui.state.displayed_result import DisplayedResult
from napari_srast.gui.state.spatial_structure import totals_at_once
from napari_srast.inference.run_estimate import Estimate, estimate

__all__ = [
    "LONG_SECONDS",
    "Alternative",
    "describe_cost",
    "describe_resolution",
    "describe_skill",
    "duration",
    "quick_runs",
]

LONG_SECONDS = 600.0
"""Expected run time beyond which the window asks before it starts."""
_FEW_GENES = 50
_LOW_FACTOR = 2.0
_PIXEL_SETTINGS = ("factor", "pixel_size", "footprint", "method")


@dataclass(frozen=True, kw_only=True, eq=False)
class Alternative:
    """A change of genes or settings that makes a run quicker.

    Parameters
    ----------
    title
        The change in a few words, with the run time.
    genes
        Genes to upsample; None for all.
    settings
        Settings of the run.
    """

    title: str
    genes: list[str] | None
    settings: UpsampleSettings


def quick_runs(
    slide: Slide,
    region: Region | None,
    genes: Sequence[str] | None,
    settings: UpsampleSettings,
    structure: np.ndarray | None = None,
    totals: np.ndarray | None = None,
) -> list[Alternative]:
    """Return runs that take at most :data:`LONG_SECONDS`, each with as few changes as possible.

    Parameters
    ----------
    slide, region, genes, settings
        The run that takes too long.
    structure
        Spatial structure of each gene of the slide, shape (G,), which chooses the genes of a shorter list; None: counts
        choose them.
    totals
        Counts of each gene of the slide, shape (G,). Both None: of a large slide no shorter list of genes is returned,
        because to sum its counts would delay the window.
    """
    chosen = None if genes is None else list(genes)
    if structure is not None:
        score: np.ndarray | None = np.nan_to_num(structure, nan=-1.0)
    else:
        score = totals_at_once(slide) if totals is None else totals
    few = _leading_genes(slide, chosen, score)
    changes: list[tuple[str, list[str] | None, UpsampleSettings]] = []
    cheaper = settings
    if settings.mode == "sample":
        cheaper = dataclasses.replace(settings, mode="mean")
        changes.append(("mode mean", chosen, cheaper))
    if settings.pixel_size is None and settings.factor > _LOW_FACTOR:
        changes.append((f"factor {_LOW_FACTOR:g}", chosen, dataclasses.replace(settings, factor=_LOW_FACTOR)))
        if cheaper is not settings:
            both = dataclasses.replace(cheaper, factor=_LOW_FACTOR)
            changes.append((f"mode mean, factor {_LOW_FACTOR:g}", chosen, both))
    if few and len(few) < len(slide.gene_indices(chosen)):
        changes.append((f"{len(few)} genes", few, settings))
        if cheaper is not settings:
            changes.append((f"{len(few)} genes, mode mean", few, cheaper))
    quick: list[Alternative] = []
    used: set[frozenset[str]] = set()
    for title, some, changed in changes:
        seconds = estimate(slide, region, some, changed, max_counted=0).seconds
        parts = frozenset(title.split(", "))
        if seconds <= LONG_SECONDS and not any(shorter <= parts for shorter in used):
            used.add(parts)
            quick.append(
                Alternative(title=f"{title[0].upper()}{title[1:]}: {duration(seconds)}", genes=some, settings=changed)
            )
    return quick


def _leading_genes(slide: Slide, genes: list[str] | None, score: np.ndarray | None) -> list[str]:
    """Return the genes with the highest scores; none if no scores are known."""
    if score is None:
        return []
    columns = slide.gene_indices(genes)
    leading = columns[np.argsort(-score[columns], kind="stable")[:_FEW_GENES]]
    return [str(slide.genes[column]) for column in leading]


def describe_cost(cost: Estimate) -> str:
    """Describe the size and the cost of a run in one line."""
    pixels = f"{'' if cost.is_counted else 'about '}{count(cost.n_pixels, 'pixel')}"
    return (
        f"{count(cost.n_spots, 'spot')}, {pixels}, {count(cost.n_genes, 'gene')}: "
        f"about {duration(cost.seconds)}, {_memory(cost.memory_bytes)}"
    )


def describe_resolution(cost: Estimate, unit: str) -> str:
    """Describe the pixels of a run.

    Parameters
    ----------
    cost
        Estimate of the run.
    unit
        Unit of the coordinate system; "unknown" if it is not known.
    """
    if unit == "unknown":
        return f"About {cost.pixels_per_spot:.3g} pixels per spot; their size is unknown."
    unit = {"um": "µm"}.get(unit, unit)
    return f"Pixels of {cost.pixel_side:.3g} {unit}, about {cost.pixels_per_spot:.3g} per spot."


def describe_skill(results: Sequence[DisplayedResult], settings: UpsampleSettings) -> str:
    """Describe the skill of earlier runs with the pixels of the next one.

    Parameters
    ----------
    results
        Results of the slide, oldest first.
    settings
        Settings of the next run.
    """
    if settings.method != "srast":
        return "Interpolations have no skill of their own."
    for displayed in reversed(results):
        result = displayed.result
        same = all(getattr(result.settings, name) == getattr(settings, name) for name in _PIXEL_SETTINGS)
        known = np.isfinite(result.skill)
        if same and known.any():
            mean = float(np.average(result.skill[known], weights=np.maximum(displayed.totals[known], 1e-12)))
            return f"Skill with these pixels: {mean:+.3f} nats per count ({count(int(known.sum()), 'gene')} of a run)."
    return "Skill with these pixels: known after a run."


def duration(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _memory(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MB" if n_bytes < 2**30 else f"{n_bytes / 2**30:,.1f} GB"
