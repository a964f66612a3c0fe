"""Cost of the stages of a run: seconds of one core of the reference computer, and bytes.

The constants of runs without expression and intensity field are fits to ``napari-srast bench`` (docs/performance);
those of expression and field come from profiles of single runs.

Shape legend: N spots, G genes of the slide, F genes of the run, E genes with expression, Q pixels, R reference genes of
the intensity field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_srast._utils.free_memory import available_memory
from napari_srast._utils.machine_speed import n_cores
from napari_srast._utils.row_blocks import MAX_WHOLE_ROWS
from napari_srast.core.limits import (
    EMPTY_PAIR_COST,
    FLOW_DRAWS,
    FLOW_PAIR_BUDGET,
    FLOW_STEPS,
    LARGE_SLIDE_PAIR_BUDGET,
    MAX_CALIBRATION_GENES,
    MAX_HOLDOUT_SPOTS,
    MAX_HOLDOUT_VARIANTS,
    MAX_REFERENCE_GENES,
    MAX_REFERENCE_VALUES,
    MAX_SASA_TRAINING_SPOTS,
    MIN_HOLDOUT_SPOTS,
    N_PROGRAMS,
    PER_GENE_LIMIT,
    PIXELS_PER_PAIR,
    SASA_TRAINING_PARTS,
    TILE_PIXELS,
)
from napari_srast.core.settings import UpsampleSettings
from napari_srast.models.sasa.config import SasaConfig

__all__ = ["JobSize", "run_bytes", "run_seconds", "tile_threads"]

_BYTES_PER_TILE = 400_000_000  # memory that a tile in work may take
_MAX_BUFFERED_BYTES = 5e8  # of tiles that wait to be written to a store
_SPOTS_PER_COARSE_SPOT = 4
_OTHER_FIELDS = 93  # of the intensity field: components, programs, total
_POINTS_PER_SPOT = 7  # in which the expression averages its field over a spot
_LARGE_POINTS_PER_SPOT = 3  # of a large slide
_MAX_PIXELS_WITH_TOTALS = 16  # of a spot whose total counts go through the flow, too
_LARGE_PROGRAM_COST = 0.3  # of a program and pixel of a large slide, whose leading programs alone go through the flow
_SASA = SasaConfig()


@dataclass(frozen=True, kw_only=True)
class JobSize:
    """Everything that the cost of a job depends on.

    Parameters
    ----------
    n_spots, n_slide_genes, n_entries
        Spots, genes and counts above 0 of the whole slide.
    n_pixels, n_genes
        Pixels and genes of the run.
    pixels_per_spot
        Mean number of pixels of a spot.
    n_expression
        Genes with expression.
    settings
        Settings of the run.
    """

    n_spots: int
    n_slide_genes: int
    n_entries: int
    n_pixels: int
    n_genes: int
    pixels_per_spot: float
    n_expression: int
    settings: UpsampleSettings

    @property
    def has_intensity(self) -> bool:
        """Whether the intensity field is part of the counts, not only of the expression."""
        return self.settings.method == "srast"

    @property
    def filled(self) -> float:
        """Fraction of the slide's counts that are above 0."""
        return self.n_entries / max(self.n_spots * self.n_slide_genes, 1)

    @property
    def n_result_entries(self) -> float:
        """Expected number of counts above 0 in the result."""
        return self.n_pixels * self.n_genes * self.filled

    @property
    def region_fraction(self) -> float:
        """Fraction of the slide's spots that are upsampled."""
        return min(1.0, self.n_pixels / (self.pixels_per_spot * self.n_spots))

    @property
    def n_fields(self) -> int:
        """Number of fields of the intensity, R + components + programs + 1."""
        reference = np.clip(MAX_REFERENCE_VALUES // max(self.n_spots, 1), 1, MAX_REFERENCE_GENES)
        return int(min(reference, self.n_slide_genes)) + _OTHER_FIELDS

    @property
    def coarse_size(self) -> tuple[float, float]:
        """Number of coarse spots, and number of variants in which the slide is coarsened."""
        n_coarse = min(self.n_spots, MAX_HOLDOUT_SPOTS) / _SPOTS_PER_COARSE_SPOT
        return n_coarse, float(np.clip(np.ceil(MIN_HOLDOUT_SPOTS / max(n_coarse, 1)), 1, MAX_HOLDOUT_VARIANTS))

    @property
    def uses_programs(self) -> bool:
        """Whether most genes are predicted from shared maps."""
        return self.n_genes > PER_GENE_LIMIT and self.flow_cost > self.pair_budget and self.settings.mode != "sample"

    @property
    def is_large(self) -> bool:
        """Whether the slide is too large to be processed as a whole."""
        return self.n_spots > MAX_WHOLE_ROWS

    @property
    def pair_budget(self) -> int:
        """Largest cost of the genes that go through the flow one by one."""
        return LARGE_SLIDE_PAIR_BUDGET if self.is_large else FLOW_PAIR_BUDGET

    @property
    def n_training_spots(self) -> float:
        """Number of spots in a step of the training of SASA."""
        if self.n_spots <= MAX_SASA_TRAINING_SPOTS:
            return self.n_spots
        return MAX_SASA_TRAINING_SPOTS / SASA_TRAINING_PARTS

    @property
    def flow_cost(self) -> float:
        """Cost of all genes one by one, in the units of :data:`napari_srast.core.limits.FLOW_PAIR_BUDGET`."""
        pair_cost = 1 - EMPTY_PAIR_COST
        n_coarse, n_variants = self.coarse_size
        scoring = n_coarse * n_variants * (EMPTY_PAIR_COST + pair_cost * min(1.0, 3 * self.filled))
        tiles = self.n_spots * self.pixels_per_spot / PIXELS_PER_PAIR * (EMPTY_PAIR_COST + pair_cost * self.filled)
        return float(self.n_genes * (tiles + scoring))


def run_seconds(size: JobSize, n_threads: int) -> float:
    """Return the expected wall time of a run with a cold cache on the reference computer."""
    if size.settings.method != "srast":
        # Not divided by the threads, because tiles that are interpolated at the same time wait for the memory.
        seconds = _interpolation_seconds(size.settings.method, size.pixels_per_spot) * size.n_pixels * size.n_genes
        return 0.3 + seconds + _expression_seconds(size, n_threads)
    return _fit_seconds(size) + _tile_seconds(size, n_threads) + _expression_seconds(size, n_threads)


def run_bytes(size: JobSize, n_threads: int, *, into_store: bool) -> float:
    """Return the expected peak memory of a run beyond the slide itself, with tiles in some threads."""
    result = 12 * size.n_result_entries
    if into_store:
        result = min(result / 4, _MAX_BUFFERED_BYTES)
    of_tile = min(size.n_pixels, TILE_PIXELS)
    tiles = n_threads * of_tile * 18.0 * size.n_genes * size.filled
    memory = 1.5e8 + 8.0 * size.n_entries + tiles + result
    if size.settings.method == "srast":
        per_spot = 3.2e3 if size.is_large else 4e3
        memory += per_spot * size.n_spots + 8e3 * size.n_training_spots + 6e3 * n_threads * of_tile
    if size.has_intensity or size.n_expression:
        memory += 8.0 * size.n_fields * (size.n_spots + 2 * n_threads * of_tile)
    return memory + size.n_expression * (24.0 * size.n_spots + 1e5)


def tile_threads() -> int:
    """Return how many tiles this computer has cores and memory for."""
    return max(1, min(n_cores(), available_memory() // _BYTES_PER_TILE))


def _fit_seconds(size: JobSize) -> float:
    """Return the seconds of the SASA fit and of the calibration, which run at the same time."""
    panel_seconds = 2.4e-5 * min(size.n_slide_genes, _SASA.n_panel)  # per epoch

    def sasa_seconds(n_spots: float) -> float:
        return _SASA.epochs * (panel_seconds + 9e-6 * n_spots)

    per_entry, per_spot = (4e-8, 4e-5) if size.is_large else (2.4e-7, 1e-4)
    embedding = 0.5 + sasa_seconds(size.n_training_spots) + per_entry * size.n_entries + per_spot * size.n_spots
    n_coarse, n_variants = size.coarse_size
    n_genes = min(size.n_slide_genes, MAX_CALIBRATION_GENES)
    calibration = n_variants * (0.5 + sasa_seconds(n_coarse) + 5e-5 * n_coarse * n_genes)
    return float(max(embedding, calibration))


def _tile_seconds(size: JobSize, n_threads: int) -> float:
    """Return the seconds of scoring the genes and predicting all tiles."""
    settings, n_entries, n_pixels = size.settings, size.n_result_entries, size.n_pixels
    if not size.uses_programs:
        scoring = 5e-5 * size.coarse_size[0] * size.n_genes
        n_calls = 1 + (settings.steps or FLOW_STEPS) * (settings.draws or FLOW_DRAWS) * (settings.mode == "sample")
        of_totals = n_pixels if size.pixels_per_spot <= _MAX_PIXELS_WITH_TOTALS else 0
        return scoring + 0.9e-5 * (n_calls * max(n_entries, n_pixels) + of_totals) / n_threads
    program_cost, per_entry = (1.2e-5 * _LARGE_PROGRAM_COST, 5e-7) if size.is_large else (1.2e-5, 1e-6)
    programs = 1.0 + per_entry * size.n_entries + (program_cost * n_pixels * N_PROGRAMS + 6e-8 * n_entries) / n_threads
    # The budget is for the whole slide: scoring uses half of it, the tiles of a region only their part of the rest.
    return programs + 1.75e-5 * size.pair_budget * (1 + size.region_fraction) / 2


def _expression_seconds(size: JobSize, n_threads: int) -> float:
    """Return the seconds of the intensity field and of the expression."""
    if not size.has_intensity and size.n_expression == 0:
        return 0.0
    to_fit, per_point, per_pixel = (1.2e-7, 4e-8, 1.0e-7) if size.is_large else (2.5e-7, 6e-8, 1.2e-7)
    n_points = _LARGE_POINTS_PER_SPOT if size.is_large else _POINTS_PER_SPOT
    seconds = 2.0 + to_fit * size.n_spots * size.n_fields
    if size.has_intensity:
        seconds += 1.0e-7 * size.n_pixels * size.n_fields / n_threads
    if size.n_expression:
        n_values = size.n_fields + size.n_expression
        seconds += per_point * n_points * size.region_fraction * size.n_spots * n_values
        seconds += per_pixel * size.n_pixels * n_values / n_threads
    return float(seconds)


def _interpolation_seconds(method: str, pixels_per_spot: float) -> float:
    """Return the seconds of a pixel and gene."""
    n_iterations = float(np.clip(4 * pixels_per_spot, 16, 100)) if method == "pycnophylactic" else 4.0
    return 3e-8 + 1e-8 * n_iterations
