"""Rows of scored pseudo-slides."""

from __future__ import annotations

from typing import Any

from napari_srast.evaluation.protocol import BASELINES
from napari_srast.training.score_report import DEFAULT, INTENSITY, POOL, REFERENCES

KINDS = (
    "nats_per_count",
    "totals",
    "composition",
    "nats_per_gene",
    "within_spot_pcc",
    "within_spot_pcc_weighted",
)


def make_row(study: str, name: str, default: float, gp: float, bilinear: float, error: float = 0.001) -> dict[str, Any]:
    """Return a row whose baselines other than gp and bilinear score 0, and whose interior scores half."""
    nats = {DEFAULT: default, "gp": gp, "bilinear": bilinear}
    nats |= {POOL: default, INTENSITY: default}
    methods = {m: {kind: nats.get(m, 0.0) for kind in KINDS} for m in (DEFAULT, POOL, INTENSITY, *BASELINES)}
    halved = {m: {kind: value / 2 for kind, value in scores.items()} for m, scores in methods.items()}
    best = max(BASELINES, key=lambda m: methods[m]["nats_per_count"])
    covered = {"multinomial": {"all": [0.3, 0.6, 0.8], "deep": [0.2, 0.4, 0.6]}}
    return {
        "study": study,
        "name": name,
        "case": "square",
        "methods": methods,
        "best_baseline": best,
        "best_baseline_pcc": best,
        "against": {
            name: {"margin": default - methods[name]["nats_per_count"], "error": error, "n_blocks": 20}
            for name in REFERENCES
        },
        "margin": default - methods[best]["nats_per_count"],
        "margin_se_spots": error,
        "margin_se_genes": None,
        "fraction_better": 0.75,
        "coverage": covered | {"calibrated": {"all": [0.5, 0.81, 0.95], "deep": [0.5, 0.79, None]}},
        "interior": {"n_spots": 10, "methods": halved},
        "spread_skill": 1.1,
        "level_step": -0.5,
        "seam": {
            "truth": 1.1,
            "mean": 4.4,
            "draw": 1.21,
            "totals_truth": 1.0,
            "totals_mean": 1.5,
            "totals_draw": None,
        },
    }
