"""What procedural tissues are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, fields

from napari_srast.errors import SettingsError

__all__ = ["PLATFORMS", "TissueSettings"]

PLATFORMS = ("cells", "beads", "bins")


@dataclass(frozen=True, kw_only=True, slots=True)
class TissueSettings:
    """Ranges that procedural tissues are drawn from; pairs are (lowest, highest), drawn log-uniformly.

    Parameters
    ----------
    cells
        Cells of a tissue, about.
    spacing_um
        Distance of neighboring cells where they lie densest.
    types
        Cell types.
    panel
        Genes.
    wide_panel
        Genes of a wide panel, as sequencing platforms have.
    wide_share
        Share of tissues with a wide panel.
    entries
        Most cells x genes of a tissue: larger ones get fewer cells, which bounds the time.
    counts_per_gene
        Mean counts of a gene in an observation; the panel's total stays within ``counts_per_observation``.
    counts_per_observation
        Mean total counts of an observation.
    dispersion
        Size parameter of the negative binomial of cells and genes; small is noisy.
    fold
        Typical ratio between a marker gene's expression inside and outside its types.
    motif_chance
        Chance of each motif that is laid over the basic plan.
    platforms
        Weights of segmented cells, beads and square bins.
    """

    cells: tuple[int, int] = (1500, 12_000)
    spacing_um: tuple[float, float] = (6.0, 14.0)
    types: tuple[int, int] = (3, 20)
    panel: tuple[int, int] = (8, 2000)
    wide_panel: tuple[int, int] = (4000, 20_000)
    wide_share: float = 0.03
    entries: int = 10_000_000
    counts_per_gene: tuple[float, float] = (0.05, 20.0)
    counts_per_observation: tuple[float, float] = (5.0, 3000.0)
    dispersion: tuple[float, float] = (0.4, 10.0)
    fold: tuple[float, float] = (5.0, 80.0)
    motif_chance: float = 0.3
    platforms: tuple[float, float, float] = (0.6, 0.2, 0.2)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("wide_share", "motif_chance"):
                good, rule = 0 <= value <= 1, "between 0 and 1"
            elif field.name == "platforms":
                good = len(value) == len(PLATFORMS) and min(value) >= 0 and sum(value) > 0
                rule = f"{len(PLATFORMS)} weights, none negative, not all zero"
            elif field.name == "entries":
                good, rule = value >= 1, "positive"
            else:
                least = {"cells": 200, "types": 2, "panel": 2, "wide_panel": 2}.get(field.name, 0)
                good = len(value) == 2 and value[0] <= value[1] and value[0] >= least and value[0] > 0
                rule = f"a pair (lowest, highest) of positive numbers{f', at least {least}' if least else ''}"
            if not good:
                raise SettingsError(f"The entry '{field.name}' of the tissues is {value}; make it {rule}.")
