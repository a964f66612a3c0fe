"""Limits of the methods that also determine the estimated run time.

They are here, in a module that loads no numerical library, so that an estimate does not load the methods themselves.
"""

from __future__ import annotations

__all__ = [
    "EMPTY_PAIR_COST",
    "FLOW_DRAWS",
    "FLOW_PAIR_BUDGET",
    "FLOW_STEPS",
    "LARGE_SLIDE_PAIR_BUDGET",
    "MAX_CALIBRATION_GENES",
    "MAX_HOLDOUT_PATCHES",
    "MAX_HOLDOUT_SPOTS",
    "MAX_HOLDOUT_VARIANTS",
    "MAX_REFERENCE_GENES",
    "MAX_REFERENCE_VALUES",
    "MAX_SASA_TRAINING_SPOTS",
    "MIN_HOLDOUT_SPOTS",
    "N_PROGRAMS",
    "PER_GENE_LIMIT",
    "PIXELS_PER_PAIR",
    "SASA_TRAINING_PARTS",
    "TILE_PIXELS",
]

PER_GENE_LIMIT = 512
"""Largest panel whose genes all go through the flow one by one."""
FLOW_PAIR_BUDGET = 1_000_000
"""Spot-gene pairs that go through the flow in a run on a larger panel, including the holdout on the coarsened slide:
about 15 s on two cores."""
LARGE_SLIDE_PAIR_BUDGET = 100_000
"""The same on slides of more than 20,000 spots. Their spots have few counts of a gene, so that shared maps are as good:
chosen on Visium HD bins of a kidney, whose held-out score hardly changes."""
PIXELS_PER_PAIR = 4.0
"""Pixels of a spot that a pair of :data:`FLOW_PAIR_BUDGET` has; a pair with more pixels counts more."""
EMPTY_PAIR_COST = 0.2
"""Cost of a pair without counts, as a fraction of a pair with counts: the work done for all spots of a gene."""
FLOW_STEPS = 8
"""Default number of Euler steps of a sample in mode "sample"."""
FLOW_DRAWS = 16
"""Default number of samples in mode "sample"."""
N_PROGRAMS = 24
"""Default number of gene programs of a slide."""

MAX_SASA_TRAINING_SPOTS = 20_000
"""Spots that SASA is trained on at most; larger slides are trained on a sample and encoded as a whole."""
SASA_TRAINING_PARTS = 4
"""Parts of such a sample; every step of the training takes one."""
MAX_HOLDOUT_SPOTS = 6000
"""Spots that are coarsened for the calibration at most: more do not change its few weights."""
MAX_HOLDOUT_PATCHES = 4
"""Compact patches that these spots are taken from on a larger slide."""
MIN_HOLDOUT_SPOTS = 300
"""Coarse spots from which on a slide is coarsened in no further variant."""
MAX_HOLDOUT_VARIANTS = 4
"""Variants in which a small slide is coarsened at most."""
MAX_CALIBRATION_GENES = 160
"""Genes that the pool weights are fitted on."""
MAX_REFERENCE_GENES = 512
"""Reference genes of the intensity field at most."""
MAX_REFERENCE_VALUES = 20_000_000
"""Spots x reference genes at most."""

TILE_PIXELS = 8192
"""Pixels of a tile at most, unless it would have very few spots."""
