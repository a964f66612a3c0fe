"""Check a result against the measured counts and summarize the checks in short sentences.

The checks are computed from the result and the slide; the provenance of the run is used only for what cannot be
computed again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from napari_srast.calibration.pooling import POOL_SHARE
from napari_srast.core.mass_balance import gene_totals, max_relative_mass_error
from napari_srast.core.result import UpsampleResult
from napari_srast.core.summary import image_nats
from napari_srast.inference.provenance import measured_fraction

__all__ = ["QualityChecks", "is_expected", "measure_quality", "qc_summary"]


@dataclass(frozen=True, kw_only=True)
class QualityChecks:
    """Checks of one result.

    Parameters
    ----------
    max_relative_mass_error
        Largest difference between the count of a spot and the sum over its pixels, relative to the count;
        infinite if a spot without counts received some.
    negative_pixels
        Number of values below zero.
    measured_fraction
        Fraction of the pixel area that is inside measured spots, 0 to 1; None if the spot diameter is unknown.
    """

    max_relative_mass_error: float
    negative_pixels: int
    measured_fraction: float | None


def measure_quality(result: UpsampleResult) -> QualityChecks:
    """Check a result against the measured counts."""
    return QualityChecks(
        max_relative_mass_error=max_relative_mass_error(result),
        negative_pixels=int((result.counts.data < 0).sum()),
        measured_fraction=measured_fraction(result.slide, result.raster) if result.slide.spot_diameter else None,
    )


def qc_summary(result: UpsampleResult, quality: QualityChecks, shown: list[str]) -> list[str]:
    """Summarize the checks in sentences: conservation, skill, area, fallbacks, network, histology, warnings.

    Parameters
    ----------
    result
        The result.
    quality
        Its checks.
    shown
        Genes whose skill and histology contribution are listed.

    Returns
    -------
    list of str
        One sentence or two per line.
    """
    error = quality.max_relative_mass_error
    lines = [f"Counts of every spot conserved{' exactly' if error == 0 else f', relative error {error:.0e}'}."]
    if quality.negative_pixels:
        lines.append(f"{quality.negative_pixels:,} negative values: please report this.")
    lines += [_skill_line(result, shown), _area_line(quality), _method_line(result)]
    lines += [_calibrated_share_line(result), _image_line(result, shown)]
    lines += map(str, result.provenance.get("notices", ()))
    return [line for line in lines if line]


def _skill_line(result: UpsampleResult, shown: list[str]) -> str:
    if not shown:
        return ""
    skill = {str(g): float(s) for g, s in zip(result.genes, result.skill, strict=True)}
    measured = {gene: skill[gene] for gene in shown if np.isfinite(skill.get(gene, np.nan))}
    if not measured:
        reason = (
            "the slide is too small, or the genes are too rare"
            if result.settings.method == "srast"
            else "interpolation methods are not evaluated on the slide"
        )
        return f"Skill of the shown genes is unknown: {reason}."
    mean = sum(measured.values()) / len(measured)
    worse = [gene for gene, value in measured.items() if value <= 0]
    suffix = f" {', '.join(worse)}: no better than a uniform split." if worse else ""
    source = "expected from the map itself" if is_expected(result) else "measured on this slide, one level coarser"
    return f"Skill of the shown genes, {source}: {mean:+.3f} nats per count over a uniform split.{suffix}"


def is_expected(result: UpsampleResult) -> bool:
    """Return whether the skill is what the map itself predicts, and not a score on held-out counts of the slide."""
    return result.provenance.get("skill") == "expected information"


def _area_line(quality: QualityChecks) -> str:
    if quality.measured_fraction is None:
        return "The spot diameter is unknown, so the measured fraction of the area is unknown."
    if quality.measured_fraction > 0.995:
        return "The whole area was measured."
    return f"{quality.measured_fraction:.0%} of the area was measured; the rest is between the spots."


def _method_line(result: UpsampleResult) -> str:
    """Report how many genes fell back to another method than the chosen one."""
    chosen = result.settings.method
    fallbacks = Counter(str(method) for method in result.method if not str(method).startswith(chosen))
    if not fallbacks:
        return f"All genes: method {chosen}." if len(result.genes) > 1 else f"Method {chosen}."
    parts = ", ".join(f"{n:,} to {name}" for name, n in fallbacks.most_common())
    return f"{fallbacks.total():,} of {len(result.genes):,} genes fell back: {parts}."


def _calibrated_share_line(result: UpsampleResult) -> str:
    """Report the share of the calibrated model in the map; empty for methods and versions without that share."""
    calibration = result.provenance.get("calibration") or {}
    has_share = is_expected(result) or result.settings.mode == "integer"
    if "trust_in_network" not in calibration or not has_share:
        return ""
    share = calibration.get("share") or {"totals": POOL_SHARE, "composition": POOL_SHARE}
    of_totals = "" if share["totals"] == share["composition"] else f" ({share['totals']:.0%} in its total counts)"
    return (
        f"The calibrated model has a share of {share['composition']:.0%} in the map{of_totals}, and a smooth map of "
        "the measured spots has the rest."
    )


def _image_line(result: UpsampleResult, shown: list[str]) -> str:
    """Report the contribution of the histology to the shown genes, in nats per count."""
    nats = image_nats(result)
    if nats is None:
        return ""
    if not nats.any():
        return "Histology not used: no evidence that it predicts the counts."
    by_gene = dict(zip(map(str, result.genes), nats, strict=True))
    contributions = [f"{gene} {by_gene[gene]:+.3f}" for gene in shown if gene in by_gene]
    if not contributions:
        weights = np.maximum(gene_totals(result.counts), 1e-12)
        return f"Histology: expected contribution {np.average(nats, weights=weights):.3f} nats per count."
    return f"Histology: expected contribution in nats per count: {', '.join(contributions)}."
