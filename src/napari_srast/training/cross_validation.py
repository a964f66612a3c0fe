"""Score the default method and every baseline on held-out studies, on the same truth.

Each pseudo-slide has a known fine truth. The default method treats it like a user's slide: it pools the network with
the interpolations by weights that are fitted on the pseudo-slide itself, coarsened once more, and averages this pool
with the intensity field; the study-level prior of the weights comes from the other folds. Baselines see the same
counts. The best baseline is chosen on the truth, which a user could not do. All methods are also scored on the spots of
the interior alone, whose cells do not reach beyond the observations. Only single genes are scored, not the sums of
genes that training also uses.

Shape legend: N spots, Q pixels, F fields, G genes (the first of the fields), E experts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import xlogy

from napari_srast._utils.serialize import to_json_values
from napari_srast._utils.threads import limit_torch_to_one_thread, single_threaded_blas
from napari_srast.calibration.dispersion import LEVEL_STEP, Concentration, fit_concentration, fit_holdout_concentration
from napari_srast.calibration.pooling import (
    EXPERT_NAMES,
    PoolWeights,
    average_with_intensity,
    pool_ratios,
    totals_shift,
)
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.skill import GeneSkill, apply_fallback
from napari_srast.calibration.weight_fitting import fit_pool_weights, fit_program_weights
from napari_srast.calibration.weight_prior import CalibrationPriors
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.errors import OutputError
from napari_srast.evaluation.metrics import Scores, fraction_better, gain_over, score_ratios
from napari_srast.evaluation.protocol import BASELINES, DENOISED
from napari_srast.geometry.blocks import square_blocks
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Interpolator
from napari_srast.models.pcfm.network import DiT
from napari_srast.training.prior_fitting import Fold, fit_fold_priors, predict_from_programs, predict_pseudo_slide
from napari_srast.training.pseudo_slides import PseudoSlide
from napari_srast.training.score_plots import write_score_plots
from napari_srast.training.score_report import (
    DEFAULT,
    INTENSITY,
    MAIN_SCORES,
    POOL,
    REFERENCES,
    summarize,
)
from napari_srast.training.score_tables import (
    average_table,
    border_table,
    case_table,
    method_table,
    part_table,
    program_table,
    skill_table,
    study_table,
)

__all__ = [
    "NETWORK_ALONE",
    "NO_FALLBACK",
    "PRIOR_WEIGHTS",
    "SASA_GP",
    "calibrate_pseudo_slide",
    "score_folds",
    "score_pseudo_slide",
    "write_scores",
]

NO_FALLBACK = "no fall-back"
"""The default, but no gene falls back to another method."""
NETWORK_ALONE = "network alone"
"""The mean of the flow."""
PRIOR_WEIGHTS = "prior weights"
"""The pool of experts with the prior's weights, without calibration on the slide."""
SASA_GP = "gp+sasa"
"""The prior map of the flow: a Gaussian process on counts denoised by SASA."""

_MAX_THREADS = 8  # each pseudo-slide in progress takes memory
_BLOCK_SIDE = 3.0  # pitches: side of the blocks of a bootstrap
_TEN_COUNTS = np.array([10.0])  # where concentrations are compared


def score_folds(
    folds: Sequence[Fold],
    monitor: RunMonitor = NO_MONITOR,
    *,
    baselines: Sequence[str] = BASELINES,
    priors: Sequence[CalibrationPriors] | None = None,
) -> list[dict[str, Any]]:
    """Score every held-out pseudo-slide of every fold, with the prior of the other folds.

    Parameters
    ----------
    folds
        Networks with their held-out pseudo-slides.
    monitor
        Receives the stage "score" and the name of every scored pseudo-slide, and can cancel the rest.
    baselines
        Names of the baselines to score.
    priors
        Prior of each fold, from the studies of the other folds; fitted if None.

    Returns
    -------
    list of dict
        One row of JSON values for each pseudo-slide, see :func:`score_pseudo_slide`.
    """
    priors = fit_fold_priors(folds)[0] if priors is None else priors
    jobs = [(one, fold.network, prior) for fold, prior in zip(folds, priors, strict=True) for one in fold.unseen]
    rows: list[dict[str, Any]] = []

    def score(job: tuple[PseudoSlide, DiT, CalibrationPriors]) -> dict[str, Any]:
        monitor.check_canceled()
        return score_pseudo_slide(*job, baselines)

    n_threads = min(os.cpu_count() or 1, _MAX_THREADS)
    with single_threaded_blas(), ThreadPoolExecutor(n_threads, initializer=limit_torch_to_one_thread) as threads:
        for row in threads.map(score, jobs):
            rows.append(row)
            monitor.report("score", len(rows), len(jobs), row["name"])
            monitor.check_canceled()
    return rows


def score_pseudo_slide(
    pseudo_slide: PseudoSlide, network: DiT, prior: CalibrationPriors, baselines: Sequence[str] = BASELINES
) -> dict[str, Any]:
    """Score the default method, its parts and every baseline on one pseudo-slide.

    Parameters
    ----------
    pseudo_slide
        A pseudo-slide of a study that is held out of the network and the prior.
    network
        The flow.
    prior
        Study-level prior of the calibration.
    baselines
        Names of the baselines to score.

    Returns
    -------
    dict
        "name", "study", "case" and sizes.

        "methods": scores of each method (:meth:`Scores.summary`).

        "best_baseline", "best_baseline_pcc": the best baselines by nats per count and by within-spot PCC, chosen on the
        truth.

        "against": for each of :data:`REFERENCES` that is scored, "margin" of the default, its "error" by a bootstrap
        over square blocks of spots, and "n_blocks", their number.

        "margin": nats per count of the default minus those of the best baseline, with bootstrap standard errors over
        spots and genes; "fraction_better": fraction of genes with a positive margin.

        "coverage": coverage of the multinomial and of the calibrated predictive distribution; "spread_skill".

        "seam": seam ratio of the truth, the mean and a draw, by genes and of totals.

        "stated": nats per count that the default's own ratios expect, which a run states as the skill.

        "shared": scores of the genes of large panels when predicted from programs, and the change from the calibrated
        pool of the genes; None for small panels.

        "interior": "n_spots" of the interior, and of these spots alone "methods", the main scores of each method, and
        "stated"; both are None if there is no such spot.

        "calibration", "concentration": the fitted weights and concentration; "level_step": the value of
        :data:`napari_srast.calibration.dispersion.LEVEL_STEP` that would fit this pseudo-slide.
    """
    layout = pseudo_slide.layout
    predictions = predict_pseudo_slide(network, pseudo_slide)
    of_totals = predictions.log_experts[..., -1:], predictions.counts[:, -1:]
    predictions = _select_genes(predictions, pseudo_slide.n_genes)
    logs, counts, dense = predictions.log_experts, predictions.counts, predictions.truth
    truth = sparse.csr_matrix(dense)
    weights, concentration, gene_methods = calibrate_pseudo_slide(pseudo_slide, network, prior)
    pooled = pool_ratios(logs, counts, layout, weights)
    assert pseudo_slide.log_intensity is not None, "every scored pseudo-slide has an intensity field"
    intensity, intensity_of_totals = np.split(pseudo_slide.log_intensity.astype(np.float64), [-1], axis=1)
    shift = totals_shift(pool_ratios(*of_totals, layout, weights)[:, 0], intensity_of_totals[:, 0])
    averaged = average_with_intensity(pooled, intensity, shift)
    ratios = {
        DEFAULT: layout.normalize(np.exp(apply_fallback(averaged, logs, gene_methods))),
        NO_FALLBACK: layout.normalize(np.exp(averaged)),
        POOL: layout.normalize(np.exp(apply_fallback(pooled, logs, gene_methods))),
        INTENSITY: layout.normalize(np.exp(intensity)),
        PRIOR_WEIGHTS: np.exp(pool_ratios(logs, counts, layout, prior.mean_weights)),
        NETWORK_ALONE: layout.normalize(np.exp(logs[EXPERT_NAMES.index("pcfm")])),
        SASA_GP: layout.normalize(np.exp(logs[EXPERT_NAMES.index("gp_denoised")])),
    }
    scores = {method: score_ratios(truth, values, layout) for method, values in ratios.items()}
    calibrated = score_ratios(truth, ratios[DEFAULT], layout, concentration=concentration.at)
    concentration_of_truth = fit_concentration([(np.log(np.maximum(ratios[DEFAULT], 1e-12)), dense, layout)])
    draw = concentration.sample(ratios[DEFAULT], layout.membership @ dense, layout, seed=0)
    scores_of_draw = score_ratios(truth, layout.normalize(draw.toarray()), layout)
    interpolator, denoised = Interpolator(layout), np.asarray(pseudo_slide.denoised)[:, : pseudo_slide.n_genes]
    for method in baselines:
        fields = denoised if method.endswith(DENOISED) else counts
        ratios[method] = interpolator.ratios(method.removesuffix(DENOISED), fields)
        scores[method] = score_ratios(truth, ratios[method], layout)

    best = max(baselines, key=lambda method: scores[method].nats_per_count)
    margin, error_over_spots = gain_over(scores[DEFAULT], scores[best])
    return to_json_values(
        {
            "name": pseudo_slide.name,
            "study": pseudo_slide.study,
            "case": pseudo_slide.description,
            "n_spots": layout.n_spots,
            "n_pixels": layout.n_pixels,
            "n_genes": pseudo_slide.n_genes,
            "methods": {method: one.summary() for method, one in scores.items()},
            "best_baseline": best,
            "best_baseline_pcc": max(baselines, key=lambda method: scores[method].within_spot_pcc),
            "against": {name: _compare(scores[DEFAULT], scores[name], layout) for name in REFERENCES if name in scores},
            "margin": margin,
            "margin_se_spots": error_over_spots,
            "margin_se_genes": gain_over(scores[DEFAULT], scores[best], over="genes")[1],
            "fraction_better": fraction_better(scores[DEFAULT], scores[best]),
            "stated": _expected_nats(ratios[DEFAULT], layout.membership @ dense, layout),
            "coverage": {"multinomial": _coverages(scores[DEFAULT]), "calibrated": _coverages(calibrated)},
            "spread_skill": calibrated.spread_skill,
            "seam": {
                "truth": scores[DEFAULT].seam_ratio_truth,
                "mean": scores[DEFAULT].seam_ratio,
                "draw": scores_of_draw.seam_ratio,
                "totals_truth": scores[DEFAULT].seam_ratio_totals_truth,
                "totals_mean": scores[DEFAULT].seam_ratio_totals,
                "totals_draw": scores_of_draw.seam_ratio_totals,
            },
            "shared": _score_programs(pseudo_slide, network, prior, weights, scores[POOL]),
            "interior": _score_interior(pseudo_slide, truth, ratios, scores),
            "calibration": weights.to_dict(),
            "concentration": concentration.to_dict(),
            "level_step": LEVEL_STEP
            + float(np.log(concentration_of_truth.at(_TEN_COUNTS) / concentration.at(_TEN_COUNTS))[0]),
        }
    )


def calibrate_pseudo_slide(
    pseudo_slide: PseudoSlide, network: DiT, prior: CalibrationPriors
) -> tuple[PoolWeights, Concentration, np.ndarray]:
    """Calibrate on the coarsened pseudo-slide, as on a user's slide.

    Returns
    -------
    weights
        Weights of the experts; those of the prior if the pseudo-slide is too small to be coarsened.
    concentration
        Concentration of the counts around the ratios; a typical one if the pseudo-slide is too small.
    methods
        Method of each gene, shape (G,): the pool, or what the gene falls back to.
    """
    predictions = [_predict_genes(network, one) for one in pseudo_slide.coarsened]
    weights = fit_pool_weights(predictions, prior)
    skill = GeneSkill.from_predictions(predictions, weights) if predictions else GeneSkill.unknown(pseudo_slide.n_genes)
    return weights, fit_holdout_concentration(predictions, weights), skill.fallback_methods()


def _compare(scores: Scores, reference: Scores, layout: SpotPixelMap) -> dict[str, float]:
    """Return the margin over a reference with its error over square blocks of spots."""
    block = square_blocks(layout.spots, _BLOCK_SIDE * layout.pitch)
    margin, error = gain_over(scores, reference, over=block)
    return {"margin": margin, "error": error, "n_blocks": int(block.max()) + 1}


def _expected_nats(ratios: np.ndarray, counts: np.ndarray, layout: SpotPixelMap) -> float:
    """Return the nats per count that ratios (Q, G) expect of the counts of the spots (N, G).

    It is what :class:`napari_srast.inference.expected_information.ExpectedInformation` states, for all genes together.
    """
    n_pixels = layout.n_pixels_per_spot[layout.parent][:, None]
    return float((xlogy(ratios, ratios * n_pixels) * counts[layout.parent]).sum() / max(counts.sum(), 1.0))


def _score_interior(
    pseudo_slide: PseudoSlide,
    truth: sparse.csr_matrix,
    ratios: Mapping[str, np.ndarray],
    scores: Mapping[str, Scores],
) -> dict[str, Any]:
    """Score all methods on the spots of the interior; ``scores`` are those on all spots."""
    interior, layout = pseudo_slide.interior, pseudo_slide.layout
    if interior is not None and not interior.all():
        pixels = interior[layout.parent]
        if not pixels.any():
            return {"n_spots": 0, "methods": None, "stated": None}
        layout = replace(layout, pixels=layout.pixels[pixels], parent=layout.parent[pixels])
        truth, ratios = truth[pixels], {method: values[pixels] for method, values in ratios.items()}
        scores = {method: score_ratios(truth, values, layout) for method, values in ratios.items()}
    return {
        "n_spots": layout.n_spots if interior is None else int(interior.sum()),
        "stated": _expected_nats(ratios[DEFAULT], layout.membership @ truth.toarray(), layout),
        "methods": {method: {kind: one.summary()[kind] for kind in MAIN_SCORES} for method, one in scores.items()},
    }


def _score_programs(
    pseudo_slide: PseudoSlide, network: DiT, prior: CalibrationPriors, weights: PoolWeights, gene_scores: Scores
) -> dict[str, Any] | None:
    """Score the genes as predicted from programs, as in a run on a large panel; None for a small panel."""
    predictions = predict_from_programs(network, pseudo_slide, weights)
    if predictions is None:
        return None
    coarsened = [predict_from_programs(network, one, weights, coarsened=True) for one in pseudo_slide.coarsened]
    calibration = fit_program_weights([one for one in coarsened if one is not None], prior.programs)
    ratios = np.exp(pool_ratios(predictions.log_experts, predictions.counts, predictions.layout, calibration))
    scores = score_ratios(sparse.csr_matrix(predictions.truth), ratios, predictions.layout)
    change, error = gain_over(scores, gene_scores, over="genes")
    return {**scores.summary(), "change": change, "change_se": error, "calibration": calibration.to_dict()}


def _predict_genes(network: DiT, pseudo_slide: PseudoSlide) -> HoldoutPredictions:
    """Predict a pseudo-slide's single genes by all experts, without its sums of genes."""
    return _select_genes(predict_pseudo_slide(network, pseudo_slide), pseudo_slide.n_genes)


def _select_genes(predictions: HoldoutPredictions, n_genes: int) -> HoldoutPredictions:
    """Return the predictions of the single genes, which are the first fields."""
    genes = slice(n_genes)
    return HoldoutPredictions(
        log_experts=predictions.log_experts[..., genes],
        counts=predictions.counts[:, genes],
        truth=predictions.truth[:, genes],
        layout=predictions.layout,
    )


def _coverages(scores: Scores) -> dict[str, list[float]]:
    return {"all": list(scores.coverage), "deep": list(scores.coverage_high_count)}


def write_scores(rows: Sequence[dict[str, Any]], directory: Path) -> list[Path]:
    """Write scores.json, scores.md (summary and tables) and the plots.

    Parameters
    ----------
    rows
        Scored pseudo-slides, from :func:`score_folds`.
    directory
        Folder to write to; it is created if it does not exist.

    Returns
    -------
    list of Path
        The written files.

    Raises
    ------
    OutputError
        Matplotlib is not installed, or the directory cannot be written.
    """
    summary = to_json_values(summarize(rows))
    tables = {
        "Averages": average_table(rows),
        "Totals and composition": part_table(rows),
        "All spots, and those away from the border": border_table(rows),
        "By study": study_table(rows),
        "By method": method_table(rows),
    }
    if all("stated" in row for row in rows):
        tables["Stated and achieved skill"] = skill_table(rows)
    if any(row.get("shared") for row in rows):
        tables["Per-gene flow and program maps"] = program_table(rows)
    tables |= {"By pseudo-slide": case_table(rows)}
    text = "# All scores on held-out studies\n\nNats per count / within-spot PCC of single genes.\n"
    text += "".join(f"\n## {title}\n\n{table}\n" for title, table in tables.items())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tables_file, scores_file = directory / "scores.md", directory / "scores.json"
        scores_file.write_text(_dump_six_digits({"summary": summary, "cases": list(rows)}) + "\n", encoding="utf-8")
        tables_file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"'{directory}' cannot be written ({error.strerror}); choose another folder.") from error
    return [scores_file, tables_file, *write_score_plots(rows, directory)]


def _dump_six_digits(values: object) -> str:
    """Return compact JSON with six significant digits; further digits are far below any standard error."""
    rounded = json.loads(json.dumps(values), parse_float=lambda text: float(f"{float(text):.6g}"))
    return json.dumps(rounded, separators=(",", ":"))
