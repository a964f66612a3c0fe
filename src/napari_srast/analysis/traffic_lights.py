"""Judge the map of each gene by a traffic light.

Shape legend: G genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_srast.core.result import UpsampleResult

__all__ = ["LIGHTS", "GeneLight", "Light", "describe_lights", "gene_lights"]

Light = Literal["better", "no clear gain", "unknown"]
LIGHTS: dict[Light, tuple[str, str]] = {
    "better": ("▲", "#158c6f"),
    "no clear gain": ("■", "#ba660e"),
    "unknown": ("?", "#777c84"),
}
"""Symbol and color of each light; they differ in shape, too, for color-blind eyes."""
_CLEAR = 2.0  # standard errors of a gain that is not by chance


@dataclass(frozen=True, kw_only=True)
class GeneLight:
    """Judgment of one gene.

    Parameters
    ----------
    light
        Whether the map is better than interpolation.
    gain
        Nats per count over the best interpolation, measured one level coarser; NaN if unknown.
    reason
        The number behind the light, or why there is none.
    """

    light: Light
    gain: float
    reason: str


def gene_lights(result: UpsampleResult) -> list[GeneLight]:
    """Judge every gene of a result by held-out counts of its slide."""
    return [_light_of(result, index) for index in range(len(result.genes))]


def _light_of(result: UpsampleResult, index: int) -> GeneLight:
    held_out = (result.provenance.get("calibration") or {}).get("held_out_gain") or {}
    return _light(result.settings.method, str(result.method[index]), held_out.get(str(result.genes[index])))


def _light(chosen: str, method: str, held_out: Sequence[float] | None) -> GeneLight:
    if chosen != "srast":
        return GeneLight(light="unknown", gain=np.nan, reason=f"The map is an interpolation, as chosen: {method}.")
    gain, error = (np.nan, np.nan) if held_out is None else (float(held_out[0]), float(held_out[1]))
    number = f"{gain:+.3f} ± {error:.3f} nats per count, measured on this slide one level coarser"
    if not method.startswith("srast"):
        return GeneLight(
            light="no clear gain",
            gain=gain,
            reason=f"The model was worse on this slide, so the map is from: {method}.",
        )
    if not np.isfinite(gain):
        return GeneLight(
            light="unknown",
            gain=gain,
            reason="The counts of this gene, or the spots, are too few to compare the map with interpolation.",
        )
    if gain > _CLEAR * error:
        return GeneLight(light="better", gain=gain, reason=f"Better than the best interpolation: {number}.")
    return GeneLight(light="no clear gain", gain=gain, reason=f"No clear gain over the best interpolation: {number}.")


def describe_lights(result: UpsampleResult, shown: Sequence[str], own: Mapping[str, float]) -> str:
    """Describe the quality of the shown genes in two sentences.

    Parameters
    ----------
    result
        The result.
    shown
        Names of the shown genes.
    own
        Share of the detail that is the gene's own.
    """
    lights = {gene: _light_of(result, result.gene_column(gene)) for gene in shown}
    parts = []
    titles: tuple[tuple[Light, str], ...] = (
        ("better", "Better than interpolation"),
        ("no clear gain", "No clear gain over interpolation"),
        ("unknown", "Not compared with interpolation"),
    )
    for light, title in titles:
        genes = [gene for gene in shown if lights[gene].light == light]
        if genes:
            parts.append(f"{LIGHTS[light][0]} {title}: {', '.join(genes)}.")
    if own:
        shares = ", ".join(f"{gene} {share:.0%}" for gene, share in own.items())
        parts.append(f"Detail inside spots that is not shared with the other genes of the run: {shares}.")
    elif shown and len(result.genes) < 2:
        parts.append("Run several genes to see how much of the detail inside spots they share.")
    return " ".join(parts)
