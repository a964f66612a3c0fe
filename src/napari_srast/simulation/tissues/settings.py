"""Settings of procedural tissues."""

from __future__ import annotations

from dataclasses import dataclass, fields

from napari_srast.errors import SettingsError

__all__ = ["PLATFORMS", "TissueSettings"]

PLATFORMS = ("cells", "beads", "bins")


@dataclass(frozen=True, kw_only=True, slots=True)
class TissueSettings:
    """Ranges of the random parameters of procedural tissues; pairs are (lowest, highest), drawn log-uniformly.

    Parameters
    ----------
    cells
        Approximate number of cells.
    spacing_um
        Distance between neighboring cells at the highest density, in micrometers.
    types
        Number of cell types.
    panel
        Number of genes.
    wide_panel
        Number of genes of a wide panel, as of sequencing platforms.
    wide_share
        Fraction of tissues with a wide panel.
    entries
        Largest number of cells x genes; larger tissues get fewer cells, which limits the time.
    counts_per_gene
        Mean counts of a gene in an observation; the total of the panel stays within ``counts_per_observation``.
    counts_per_observation
        Mean total counts of an observation.
    dispersion
        Size parameter of the negative binomial of cells and genes; small values mean noisy counts.
    fold
        Typical ratio between the expression of a marker gene inside and outside its types.
    motif_chance
        Probability of each motif.
    platforms
        Relative frequencies of segmented cells, beads and square bins.
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
                valid, rule = 0 <= value <= 1, "between 0 and 1"
            elif field.name == "platforms":
                valid = len(value) == len(PLATFORMS) and min(value) >= 0 and sum(value) > 0
                rule = f"{len(PLATFORMS)} weights, none negative, not all zero"
            elif field.name == "entries":
                valid, rule = value >= 1, "positive"
            else:
                least = {"cells": 200, "types": 2, "panel": 2, "wide_panel": 2}.get(field.name, 0)
                valid = len(value) == 2 and value[0] <= value[1] and value[0] >= least and value[0] > 0
                rule = f"a pair (lowest, highest) of positive numbers{f', at least {least}' if least else ''}"
            if not valid:
                raise SettingsError(f"The entry '{field.name}' of the tissues is {value}; make it {rule}.")
