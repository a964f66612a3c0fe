"""Collect what a report says about a run, as plain texts and numbers.

A report may be given away, so it contains no path, no name of an element, coordinate system or spot, and no position.
Shape legend: Q pixels, G genes.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from napari_srast._utils.text import count
from napari_srast._version import __version__
from napari_srast.analysis.domains import Domains
from napari_srast.analysis.drawing import domain_colors
from napari_srast.analysis.quality_checks import is_expected, measure_quality, qc_summary
from napari_srast.analysis.traffic_lights import LIGHTS, Light, gene_lights
from napari_srast.core.mass_balance import gene_totals
from napari_srast.core.result import UpsampleResult

__all__ = ["DomainRow", "DomainSet", "GeneRow", "ReportContent", "collect", "file_name", "without_paths"]

_MAX_NAMES = 20  # of genes, in a setting
_MARKERS = 8
_PACKAGES = ("numpy", "scipy", "torch", "spatialdata", "matplotlib")
_QUOTED_PATH = re.compile(r"(['\"])(?:[A-Za-z]:)?[\\/][^'\"\n]*?([^'\"\\/\n]+)[\\/]?\1")
_PATH = re.compile(r"(?<![\w:/\\.])(?:[A-Za-z]:)?[\\/](?:[^\s'\"\\/:;,]+[\\/])+([^\s'\"\\/:;,]+)")


@dataclass(frozen=True, kw_only=True)
class GeneRow:
    """A gene in the table of the report.

    Parameters
    ----------
    name
        Name of the gene.
    in_spots, in_pixels
        Its counts in the measured spots, and the sum over the pixels.
    skill
        Nats per count over a uniform split; None if unknown.
    light, symbol, color
        Judgment of the map, its symbol and the color of that.
    sentence
        What the judgment is based on.
    """

    name: str
    in_spots: float
    in_pixels: float
    skill: float | None
    light: str
    symbol: str
    color: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class DomainRow:
    """A domain: name, color "#rrggbb", number and share of pixels, and the genes that are highest in it."""

    name: str
    color: str
    n_pixels: int
    share: float
    markers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DomainSet:
    """Domains under one name.

    Parameters
    ----------
    name
        Name of the set.
    rows
        The domains.
    notes
        What the domains are not, and what differs from the request.
    """

    name: str
    rows: tuple[DomainRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Texts and numbers of a report.

    Parameters
    ----------
    slide
        File name of the slide, or what it is.
    summary
        The run in one sentence.
    verdict
        How many maps are better than interpolation.
    checks
        Checks of the result, one or two sentences each.
    genes
        A row per gene, in the order of the result.
    skill_source
        Where the skill comes from.
    max_relative_error
        Largest relative difference between a count of a spot and the sum over its pixels.
    settings
        Settings of the run with their values.
    domains
        Sets of domains.
    notices
        Notices of the slide and of the run.
    versions
        Packages with their versions.
    """

    slide: str
    summary: str
    verdict: tuple[str, ...]
    checks: tuple[str, ...]
    genes: tuple[GeneRow, ...]
    skill_source: str
    max_relative_error: float
    settings: tuple[tuple[str, str], ...]
    domains: tuple[DomainSet, ...]
    notices: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]


def collect(result: UpsampleResult, pictured: Sequence[str], domains: Mapping[str, Domains]) -> ReportContent:
    """Collect the texts and numbers of a report.

    Parameters
    ----------
    result
        The result.
    pictured
        Genes that have a picture; the checks describe them.
    domains
        Sets of domains by name.
    """
    quality = measure_quality(result)
    genes = _gene_rows(result)
    notices = [*result.slide.notices, *map(str, result.provenance.get("notices", ()))]
    if result.slide.source.synthetic:
        notices.insert(0, "The slide is synthetic: its counts are simulated, and not a measurement.")
    run_notices = set(map(str, result.provenance.get("notices", ())))
    path = result.slide.source.path
    secrets = [text for text in (path, result.settings.model) if text is not None]
    return ReportContent(
        slide="slide in memory" if path is None else file_name(path),
        summary=_summary(result),
        verdict=_verdict(result, genes),
        checks=tuple(line for line in qc_summary(result, quality, list(pictured)) if line not in run_notices),
        genes=genes,
        skill_source=_skill_source(result),
        max_relative_error=quality.max_relative_mass_error,
        settings=_settings(result),
        domains=tuple(_domain_set(name, found) for name, found in domains.items()),
        notices=tuple(dict.fromkeys(without_paths(notice, secrets) for notice in notices)),
        versions=_versions(result),
    )


def file_name(path: str) -> str:
    """Return the last part of a path of any system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "slide"


def without_paths(text: str, paths: Sequence[str] = ()) -> str:
    """Return a text whose absolute paths are reduced to their last parts.

    Parameters
    ----------
    text
        The text.
    paths
        Paths that it may contain, also without quotes and with spaces.
    """
    for path in sorted(paths, key=len, reverse=True):
        if re.search(r"[\\/]", path):
            text = text.replace(path, file_name(path))
    return _PATH.sub(r"\1", _QUOTED_PATH.sub(r"\1\2\1", text))


def _summary(result: UpsampleResult) -> str:
    raster, slide = result.raster, result.slide
    unit = {"um": "µm", "unknown": "units"}.get(slide.cs_unit, slide.cs_unit)
    where = "the whole slide" if result.region is None else f"a region with {len(raster.spots):,} of its spots"
    return (
        f"Counts of {count(len(result.genes), 'gene')} in {count(len(raster.spots), 'spot')} were divided among "
        f"{count(result.n_pixels, 'pixel')} of {raster.pixel_size * slide.cs_scale:.4g} {unit}, on {where}."
    )


def _verdict(result: UpsampleResult, genes: Sequence[GeneRow]) -> tuple[str, ...]:
    titles: dict[Light, str] = {
        "better": "better than the best interpolation on held-out counts of this slide",
        "no clear gain": "no clear gain over the best interpolation on held-out counts of this slide",
        "unknown": "not compared with interpolation",
    }
    numbers = {light: sum(gene.light == light for gene in genes) for light in titles}
    if result.settings.method != "srast":
        return (f"The maps are interpolations, as chosen: {result.settings.method}.",)
    return tuple(f"{LIGHTS[light][0]} {count(n, 'gene')}: {titles[light]}." for light, n in numbers.items() if n)


def _skill_source(result: UpsampleResult) -> str:
    if not np.isfinite(result.skill).any():
        reason = (
            "the slide is too small, or the genes are too rare"
            if result.settings.method == "srast"
            else "interpolations are not evaluated"
        )
        return f"It is unknown here: {reason}."
    if is_expected(result):
        return (
            "Pixels this small, or gaps between the spots, cannot be checked on the slide itself, so the skill is what "
            "the map itself predicts."
        )
    return "It is measured on this slide, one level coarser: counts of groups of spots are divided among the spots."


def _gene_rows(result: UpsampleResult) -> tuple[GeneRow, ...]:
    slide = result.slide
    columns = slide.gene_indices([str(gene) for gene in result.genes])
    in_spots = gene_totals(slide.select_counts(columns)[result.raster.spots])
    in_pixels = gene_totals(result.counts)
    return tuple(
        GeneRow(
            name=str(gene),
            in_spots=float(in_spots[i]),
            in_pixels=float(in_pixels[i]),
            skill=float(result.skill[i]) if np.isfinite(result.skill[i]) else None,
            light=light.light,
            symbol=LIGHTS[light.light][0],
            color=LIGHTS[light.light][1],
            sentence=light.reason,
        )
        for i, (gene, light) in enumerate(zip(result.genes, gene_lights(result), strict=True))
    )


def _settings(result: UpsampleResult) -> tuple[tuple[str, str], ...]:
    rows = []
    for name, value in asdict(result.settings).items():
        if name == "factor" and result.settings.pixel_size is not None:
            continue
        if name == "model":
            text = file_name(str(value))
        elif isinstance(value, tuple):
            text = ", ".join(value[:_MAX_NAMES])
            text += f" and {len(value) - _MAX_NAMES:,} more" if len(value) > _MAX_NAMES else ""
        else:
            text = "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        rows.append((name.replace("_", " "), text))
    source, sha256 = result.provenance.get("device"), result.provenance.get("model_sha256")
    rows.append(("histology", "none" if result.slide.image is None else "available"))
    if source:
        rows.append(("computed on", str(source)))
    if sha256:
        rows.append(("SHA-256 of the model", str(sha256)))
    return tuple(rows)


def _domain_set(name: str, found: Domains) -> DomainSet:
    higher = found.markers[found.markers["log2_fold_change"] > 0]
    colors = domain_colors(len(found.sizes))
    rows = []
    for (domain, size), color in zip(found.sizes.items(), colors, strict=True):
        genes = higher.loc[higher["domain"] == domain, "gene"].head(_MARKERS)
        digits = "".join(f"{round(255 * part):02x}" for part in color)
        rows.append(
            DomainRow(
                name=str(domain),
                color=f"#{digits}",
                n_pixels=int(size),
                share=size / len(found.labels),
                markers=tuple(map(str, genes)),
            )
        )
    note = str(found.markers.attrs.get("note", ""))
    return DomainSet(name=name, rows=tuple(rows), notes=tuple(text for text in (*found.notices, note) if text))


def _versions(result: UpsampleResult) -> tuple[tuple[str, str], ...]:
    rows = [("napari-srast, of the run", str(result.provenance.get("version", "unknown")))]
    rows += [("napari-srast, of this report", __version__), ("Python", platform.python_version())]
    for name in _PACKAGES:
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(rows)
