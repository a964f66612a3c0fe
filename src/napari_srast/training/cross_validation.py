"""Scores on studies never trained on: the default method beside every baseline, on the same truth.

``python -m napari_srast.training.scoring RECIPE.toml -o FOLDER`` takes the networks of the recipe's folds (and trains
those that are missing), scores each on the studies that it has not seen, and writes scores.json, tables, plots. Given
the scores.json that training left in its work folder, it only writes these.

Every case is a pseudo-slide whose fine truth is known. The default method does to it what it does to a user's slide: it
pools the network with the interpolations as the slide itself, coarsened once more, says; its prior is the fleet of the
other folds. Baselines see the same counts; the best of them is chosen on the truth, which no user could do. Only single
genes are scored, not the sums of genes that training uses too.

Shape legend: N spots, Q pixels, F fields, G genes (the first of the fields), E experts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from threadpoolctl import threadpool_limits

from napari_srast.calibration.dispersion import LEVEL_STEP, Concentration, check_concentration, fit_concentration
from napari_srast.calibration.fitting import fit_pool_weights, fit_program_weights
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.prior import CalibrationPriors
from napari_srast.calibration.skill import GeneSkill, apply_fallback
from napari_srast.calibration.weights import EXPERT_NAMES, PoolWeights, pool_ratios
from napari_srast.errors import OutputError
from napari_srast.evaluation.metrics import Scores, fraction_better, gain_over, score_ratios
from napari_srast.evaluation.protocol import BASELINES, DENOISED, plain_values
from napari_srast.interpolation import Interpolator
from napari_srast.models.pcfm.network import DiT
from napari_srast.training.prior_fitting import Fold, check_of, fit_fold_priors, shared_check_of
from napari_srast.training.pseudo_slides import PseudoSlide
from napari_srast.training.score_report import (
    DEFAULT,
    average_table,
    case_table,
    method_table,
    shared_table,
    study_table,
    summarize,
    write_score_plots,
)

__all__ = ["FLEET", "NETWORK", "POOLED", "SASA_GP", "calibrate_case", "score_case", "score_folds", "write_scores"]

POOLED, NETWORK, FLEET, SASA_GP = "no fall-back", "network alone", "fleet weights", "gp+sasa"
"""Parts of the default: no gene falls back to another method; the flow's mean; the pool with the other folds' weights;
the flow's prior."""
_MOST_THREADS = 8  # a case in work takes memory
_TEN = np.array([10.0])  # counts at which concentrations are compared


def score_folds(
    folds: Sequence[Fold],
    progress: Callable[[int, int, str], None] | None = None,
    *,
    baselines: Sequence[str] = BASELINES,
    fleets: Sequence[CalibrationPriors] | None = None,
) -> list[dict[str, Any]]:
    """Score every unseen case of every fold, with the other folds' calibrations as prior.

    Parameters
    ----------
    folds
        Networks with their unseen cases.
    progress
        Called with done, total and the name of the case.
    baselines
        Which to score.
    fleets
        For each fold the prior, from the studies of the others; fitted if not given.

    Returns
    -------
    list of dict
        One row for each case, of plain values: see :func:`score_case`.
    """
    fleets = fit_fold_priors(folds)[0] if fleets is None else fleets
    work = [
        partial(score_case, case, fold.network, fleet, baselines)
        for fold, fleet in zip(folds, fleets, strict=True)
        for case in fold.unseen
    ]
    rows: list[dict[str, Any]] = []
    n_threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with threadpool_limits(1), ThreadPoolExecutor(n_threads, initializer=partial(torch.set_num_threads, 1)) as threads:
        for row in threads.map(lambda score: score(), work):
            rows.append(row)
            if progress is not None:
                progress(len(rows), len(work), row["name"])
    return rows


def score_case(
    case: PseudoSlide, network: DiT, fleet: CalibrationPriors, baselines: Sequence[str] = BASELINES
) -> dict[str, Any]:
    """Score the default method, its parts and every baseline on one case.

    Parameters
    ----------
    case
        Of a study that neither the network nor the fleet has seen.
    network, fleet
        The flow, and the prior of the calibration.
    baselines
        Which to score.

    Returns
    -------
    dict
        "name", "study", "case" and sizes; "methods": for each its figures (:meth:`Scores.summary`); "best_baseline" and
        "best_baseline_pcc", chosen on the truth; "margin" of the default over the former in nats per count, with
        bootstrap errors over spots and genes; "fraction_better" of the genes; "coverage" of the multinomial and
        the calibrated predictive; "seam": that of the truth, the mean and a draw, by genes and of totals;
        "shared": what genes of large panels come to by the maps that they share, None on small ones; "concentration",
        and "level_step": what :data:`napari_srast.calibration.dispersion.LEVEL_STEP` would have had to be
        for this case.
    """
    layout = case.layout
    known = _of_genes(network, case)
    logs, counts, dense = known.log_experts, known.counts, known.truth
    truth = sparse.csr_matrix(dense)
    own, concentration, methods = calibrate_case(case, network, fleet)
    pooled = pool_ratios(logs, counts, layout, own)
    ratios = {
        DEFAULT: layout.normalize(np.exp(apply_fallback(pooled, logs, methods))),
        POOLED: np.exp(pooled),
        FLEET: np.exp(pool_ratios(logs, counts, layout, fleet.calibration)),
        NETWORK: layout.normalize(np.exp(logs[EXPERT_NAMES.index("pcfm")])),
        SASA_GP: layout.normalize(np.exp(logs[EXPERT_NAMES.index("gp_denoised")])),
    }
    scores = {method: score_ratios(truth, values, layout) for method, values in ratios.items()}
    calibrated = score_ratios(truth, ratios[DEFAULT], layout, concentration=concentration.at)
    of_truth = fit_concentration([(np.log(np.maximum(ratios[DEFAULT], 1e-12)), dense, layout)])
    draw = concentration.draw(ratios[DEFAULT], layout.membership @ dense, layout, seed=0)
    drawn = score_ratios(truth, layout.normalize(draw.toarray()), layout)
    interpolator, low_rank = Interpolator(layout), np.asarray(case.low_rank)[:, : case.n_genes]
    for method in baselines:
        fields = low_rank if method.endswith(DENOISED) else counts
        scores[method] = score_ratios(truth, interpolator.ratios(method.removesuffix(DENOISED), fields), layout)

    best = max(baselines, key=lambda method: scores[method].nats_per_count)
    margin, by_spots = gain_over(scores[DEFAULT], scores[best])
    return plain_values(
        {
            "name": case.name,
            "study": case.study,
            "case": case.description,
            "n_spots": layout.n_spots,
            "n_pixels": layout.n_pixels,
            "n_genes": case.n_genes,
            "methods": {method: one.summary() for method, one in scores.items()},
            "best_baseline": best,
            "best_baseline_pcc": max(baselines, key=lambda method: scores[method].within_spot_pcc),
            "margin": margin,
            "margin_se_spots": by_spots,
            "margin_se_genes": gain_over(scores[DEFAULT], scores[best], over="genes")[1],
            "fraction_better": fraction_better(scores[DEFAULT], scores[best]),
            "coverage": {"multinomial": _coverages(scores[DEFAULT]), "calibrated": _coverages(calibrated)},
            "spread_skill": calibrated.spread_skill,
            "seam": {
                "truth": scores[DEFAULT].seam_ratio_truth,
                "mean": scores[DEFAULT].seam_ratio,
                "draw": drawn.seam_ratio,
                "totals_truth": scores[DEFAULT].seam_ratio_totals_truth,
                "totals_mean": scores[DEFAULT].seam_ratio_totals,
                "totals_draw": drawn.seam_ratio_totals,
            },
            "shared": _score_shared(case, network, fleet, own, scores[DEFAULT]),
            "calibration": own.to_dict(),
            "concentration": concentration.to_dict(),
            "level_step": LEVEL_STEP + float(np.log(of_truth.at(_TEN) / concentration.at(_TEN))[0]),
        }
    )


def calibrate_case(
    case: PseudoSlide, network: DiT, fleet: CalibrationPriors
) -> tuple[PoolWeights, Concentration, np.ndarray]:
    """Do what is done to a user's slide: learn of the slide coarsened once whom to trust, and how counts scatter.

    Returns
    -------
    calibration, concentration, methods
        The former for the case itself; those of the fleet and of a middling slide where it is too small to be
        coarsened. The method of each gene, shape (G,): the pool, or what the gene falls back to.
    """
    checks = [_of_genes(network, check) for check in case.checks]
    own = fit_pool_weights(checks, fleet)
    genes = GeneSkill.of(checks, own) if checks else GeneSkill.unknown(case.n_genes)
    return own, check_concentration(checks, own), genes.fall_back()


def _score_shared(
    case: PseudoSlide, network: DiT, fleet: CalibrationPriors, own: PoolWeights, one_by_one: Scores
) -> dict[str, Any] | None:
    """Score the maps that genes share, as a run on a large panel would pool them; None for a small panel."""
    known = shared_check_of(network, case, own)
    if known is None:
        return None
    told = [shared_check_of(network, check, own, check=True) for check in case.checks]
    calibration = fit_program_weights([check for check in told if check is not None], fleet.shared)
    ratios = np.exp(pool_ratios(known.log_experts, known.counts, known.layout, calibration))
    scores = score_ratios(sparse.csr_matrix(known.truth), ratios, known.layout)
    change, error = gain_over(scores, one_by_one, over="genes")
    return {**scores.summary(), "change": change, "change_se": error, "calibration": calibration.to_dict()}


def _of_genes(network: DiT, case: PseudoSlide) -> HoldoutPredictions:
    """Return what all experts say of a case's genes, its sums left out."""
    known, genes = check_of(network, case), slice(case.n_genes)
    return HoldoutPredictions(
        log_experts=known.log_experts[..., genes],
        counts=known.counts[:, genes],
        truth=known.truth[:, genes],
        layout=known.layout,
    )


def _coverages(scores: Scores) -> dict[str, list[float]]:
    return {"all": list(scores.coverage), "deep": list(scores.coverage_deep)}


def write_scores(rows: Sequence[dict[str, Any]], directory: Path) -> list[Path]:
    """Write scores.json and scores.md (summary and tables), and the plots; returns their paths.

    Raises
    ------
    OutputError
        Matplotlib is not installed, or the directory cannot be written.
    """
    summary = plain_values(summarize(rows))
    parts = {
        "Averages": average_table(rows),
        "By study": study_table(rows),
        "By method": method_table(rows),
    }
    if any(row.get("shared") for row in rows):
        parts["Genes one by one, and by the maps that they share"] = shared_table(rows)
    parts |= {"By case": case_table(rows)}
    text = "# All scores on unseen studies\n\nNats per count / within-spot PCC, of single genes.\n"
    text += "".join(f"\n## {title}\n\n{table}\n" for title, table in parts.items())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tables, figures = directory / "scores.md", directory / "scores.json"
        figures.write_text(_six_digits({"summary": summary, "cases": list(rows)}) + "\n", encoding="utf-8")
        tables.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"'{directory}' cannot be written ({error.strerror}); choose another folder.") from error
    return [figures, tables, *write_score_plots(rows, directory)]


def _six_digits(values: object) -> str:
    """Return compact JSON: what lies beyond six digits is not told apart by any error bar."""
    rounded = json.loads(json.dumps(values), parse_float=lambda text: float(f"{float(text):.6g}"))
    return json.dumps(rounded, separators=(",", ":"))
