"""Source slides of training, and the settings by which pseudo-slides are sampled from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
from scipy import sparse

from napari_srast.errors import InputError
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.simulation.tissues import make_tissue

__all__ = ["PseudoSlideSettings", "SamplingContext", "SourceSlide", "read_source"]


@dataclass(frozen=True, kw_only=True)
class SourceSlide:
    """A file or a procedural tissue to train on.

    Parameters
    ----------
    name
        Unique name of the slide; it seeds the sampling.
    study
        Name of the study, donor or animal. Slides of one study stay on one side of any split into folds.
    path
        The .h5ad file: counts in ``X``, coordinates in ``obsm["spatial"]``. None for a procedural tissue.
    resolution
        "high": cells, beads or bins, which are re-binned; "low": spots, which are coarsened; "procedural": a synthetic
        tissue, which is re-binned.
    cases
        Number of pseudo-slides to sample from it.
    tissue_seed
        Seed of a procedural tissue.
    """

    name: str
    study: str
    path: Path | None = None
    resolution: str
    cases: int = 4
    tissue_seed: int = 0

    @property
    def is_procedural(self) -> bool:
        """Whether the slide is a procedural tissue."""
        return self.path is None


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoSlideSettings:
    """Ranges from which pseudo-slides are sampled. The names are keys of a recipe's section ``[cases]``.

    Parameters
    ----------
    factors
        Pixels per pitch; one is drawn for each pseudo-slide.
    least_spots
        Smallest number of spots of a pseudo-slide.
    most_observations
        Larger slides are cropped to about this many cells, beads or bins.
    cells_per_spot
        Range of the mean number of cells, beads or bins per spot.
    fields
        Largest number of single genes of a pseudo-slide.
    groups
        Number of gene groups. Their sums are added as fields with high counts, like programs.
    thinning
        Fractions of the counts to keep; one is drawn for each pseudo-slide.
    capture_noise
        Standard deviations, in log units, of the capture efficiency in procedural tissues. One is drawn for the spots
        of a pseudo-slide, one for its pixels and one for each gene of a pixel. Capture is that uneven on array
        platforms and even on imaging platforms, so the network learns that high counts can still be uncertain.
    missing_spots
        Fractions of spots to remove; one is drawn for each procedural tissue and each crop.
    windows
        Number of additional crops of each real slide. Crops are used for training only. They have missing spots, end
        along a line or a circle, and low-resolution slides are coarsened in any of the available ways.
    discs
        Number of additional pseudo-slides of each high-resolution slide whose spots measure discs
        (:mod:`napari_srast.training.disc_sampling`), and at most one of each procedural tissue; for networks with the
        entry ``support``. They are used for training only.
    disc_factors, disc_diameters, disc_cells_per_spot, disc_thinning
        Of these, the pixels per pitch, the range of the diameter in pitches (half of them are discs of 0.55, as on
        Visium), the range of the mean number of cells, beads or bins per cell of a spot, and the fractions of the
        counts that are measured; the truth is made of the others.
    disc_pixels
        Largest number of their pixels, about: slides are cropped to it.
    """

    factors: tuple[float, ...] = (2.0, 2.0, 2.0, 3.0, 4.0)
    least_spots: int = 60
    most_observations: int = 20_000
    cells_per_spot: tuple[float, float] = (6.0, 80.0)
    fields: int = 120
    groups: int = 12
    thinning: tuple[float, ...] = (1.0, 1.0, 0.5, 0.25)
    capture_noise: tuple[float, ...] = (0.0, 0.15, 0.3, 0.5)
    missing_spots: tuple[float, ...] = (0.0, 0.0, 0.03, 0.1)
    windows: int = 0
    discs: int = 0
    disc_factors: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0)
    disc_diameters: tuple[float, float] = (0.3, 1.0)
    disc_cells_per_spot: tuple[float, float] = (15.0, 150.0)
    disc_thinning: tuple[float, ...] = (0.5, 0.5, 0.25)
    disc_pixels: int = 9_000


@dataclass(frozen=True, kw_only=True)
class SamplingContext:
    """Inputs that all pseudo-slides of one source share.

    Parameters
    ----------
    source
        The slide to sample from.
    settings
        Ranges of the pseudo-slides.
    sasa
        How SASA is fitted to each pseudo-slide.
    """

    source: SourceSlide
    settings: PseudoSlideSettings
    sasa: SasaConfig


def read_source(source: SourceSlide) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Read the points (n, 2) and counts (n, G) of a source slide.

    Raises
    ------
    InputError
        The file does not exist.
    """
    if source.path is None:
        tissue = make_tissue(source.tissue_seed)
        return tissue.points, tissue.counts
    if not source.path.is_file():
        raise InputError(f"The training slide '{source.path}' does not exist; correct the recipe's data folder.")
    table = anndata.read_h5ad(source.path)
    points = np.asarray(table.obsm["spatial"], dtype=float)[:, :2]
    return points, sparse.csr_matrix(table.X, dtype=np.float32)
