"""What lets a user believe a result: computed from the result and the slide, never taken from the run's own word."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from napari_srast.inference.provenance import measured_fraction
from napari_srast.core.mass_balance import gene_totals, max_relative_mass_error
from napari_srast.core.result import UpsampleResult
from napari_srast.core.summary import image_nats

__all__ = ["QualityChecks", "measure_quality", "trust_lines"]


@dataclass(frozen=True, kw_only=True)
class QualityChecks:
    """Checks of one result.

    Parameters
    ----------
    max_relative_mass_error
        Largest difference between a spot's count and the sum over its pixels, relative to the count;
        infinite where counts appeared in a spot that had none.
    negative_pixels
        Number of values below zero.
    measured_fraction
        Share of the painted area that lies inside a measured spot; None where the spots' size is unknown.
    """

    max_relative_mass_error: float
    negative_pixels: int
    measured_fraction: float | None


def measure_quality(result: UpsampleResult) -> QualityChecks:
    """Check a result against the counts that it was made from."""
    return QualityChecks(
        max_relative_mass_error=max_relative_mass_error(result),
        negative_pixels=int((result.counts.data < 0).sum()),
        measured_fraction=measured_fraction(result.slide, result.raster) if result.slide.spot_diameter else None,
    )


def _image_line(result: UpsampleResult, shown: list[str]) -> str:
    """Tell what the histology brought to each of the genes on show, in nats per count."""
    nats = image_nats(result)
    if nats is None:
        return ""
    if not nats.any():
        return "Image: not used, it says nothing that the counts bear out."
    by_gene = dict(zip(map(str, result.genes), nats, strict=True))
    told = [f"{gene} {by_gene[gene]:+.3f}" for gene in shown if gene in by_gene]
    if not told:
        weight = np.maximum(gene_totals(result.counts), 1e-12)
        return f"Image: about {np.average(nats, weights=weight):.3f} nats per count in where counts go."
    return f"Image, nats per count that it is expected to have brought: {', '.join(told)}."


def trust_lines(result: UpsampleResult, trust: QualityChecks, shown: list[str]) -> list[str]:
    """Tell the checks in short sentences: mass, skill, area, fall-backs, trust in the network, image, notices."""
    error = trust.max_relative_mass_error
    lines = [f"Counts of every spot conserved{' exactly' if error == 0 else f', relative error {error:.0e}'}."]
    if trust.negative_pixels:
        lines.append(f"{trust.negative_pixels:,} negative values: please report this.")
    lines += [_skill_line(result, shown), _area_line(trust), _method_line(result)]
    lines += [_network_line(result), _image_line(result, shown)]
    lines += map(str, result.provenance.get("notices", ()))
    return [line for line in lines if line]


def _skill_line(result: UpsampleResult, shown: list[str]) -> str:
    skill = {str(g): float(s) for g, s in zip(result.genes, result.skill, strict=True)}
    known = {gene: skill[gene] for gene in shown if np.isfinite(skill.get(gene, np.nan))}
    if not shown:
        return ""
    if not known:
        checked = result.settings.method == "srast"
        why = (
            "the slide is too small, or the genes too rare"
            if checked
            else "interpolations are not checked on the slide"
        )
        return f"Skill of the genes on show is not known: {why}."
    worse = [gene for gene, value in known.items() if value <= 0]
    mean = sum(known.values()) / len(known)
    tail = f" {', '.join(worse)}: no better than an even split." if worse else ""
    return f"Skill of the genes on show, on this slide: {mean:+.3f} nats per count over an even split.{tail}"


def _area_line(trust: QualityChecks) -> str:
    if trust.measured_fraction is None:
        return "The spots' size is unknown, so the measured share of the area is too."
    if trust.measured_fraction > 0.995:
        return "All of the painted area was measured."
    return f"{trust.measured_fraction:.0%} of the painted area was measured; the rest fills the gaps between spots."


def _network_line(result: UpsampleResult) -> str:
    """Tell how far the slide's own check let the network speak; nothing for results that do not know."""
    known = result.provenance.get("calibration") or {}
    trust = known.get("trust_in_network")
    if trust is None:
        return ""
    if known.get("source") != "slide":
        return "This slide is too small to be checked on itself: the network is trusted as on other slides."
    if trust > 0.995:
        return "The network is surely better than interpolations on this slide's own spots."
    return f"This slide's own spots leave the network {trust:.0%} of its say; interpolations have the rest."


def _method_line(result: UpsampleResult) -> str:
    """Tell how many genes were not split by the method that was asked for."""
    asked = result.settings.method
    fallen = Counter(str(m) for m in result.method if not str(m).startswith(asked))
    if not fallen:
        return f"All maps are from {asked}." if len(result.genes) > 1 else f"The map is from {asked}."
    parts = ", ".join(f"{n:,} to {name}" for name, n in fallen.most_common())
    return f"{fallen.total():,} of {len(result.genes):,} genes fell back: {parts}."
