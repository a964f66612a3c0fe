"""Write the model card of a checkpoint: training data with licenses, recipe, scores on held-out studies, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_srast.calibration.pooling import EXPERT_NAMES
from napari_srast.calibration.weight_prior import CalibrationPriors
from napari_srast.training.recipe import Recipe
from napari_srast.training.score_report import summarize
from napari_srast.training.score_tables import study_table

__all__ = ["write_model_card"]


def write_model_card(
    path: Path, recipe: Recipe, scores: Sequence[Mapping[str, Any]], prior: CalibrationPriors, sha256: str
) -> None:
    """Write the model card of a checkpoint.

    Parameters
    ----------
    path
        The Markdown file to write.
    recipe
        The recipe; the card lists its slides with their licenses.
    scores
        Rows of :func:`napari_srast.training.cross_validation.score_folds`; empty if the recipe has no folds.
    prior
        Study-level prior of the calibration.
    sha256
        Digest of the checkpoint file, hexadecimal.
    """
    real = [source for source in recipe.sources if source.path is not None]
    slides = "\n".join(f"| {s.name} | {s.study} | {recipe.licenses[s.name]} |" for s in real)
    n_procedural = len(recipe.sources) - len(real)
    score_text = _describe_scores(scores) if scores else "None: the recipe has no folds."
    weights = ", ".join(
        f"{e} {a:.2f} {b:+.2f}"
        for e, a, b in zip(EXPERT_NAMES, prior.pool.weights[0], prior.pool.weights[1], strict=True)
    )
    path.write_text(
        f"""# Model card: {recipe.name}

A flow-matching network (PCFM) that predicts endpoints, conditioned on features of a graph VAE (SASA) that is fitted to
each slide; see the method page of the documentation. This is an independent implementation of the published description
of SRast (arXiv 2602.10644). It does not use the paper's weights, and the paper's numbers are not claimed for it.

- File: `{recipe.output.name}`, sha256 `{sha256}`
- Made by: `napari-srast train {recipe.name}.toml` (the recipe is in `training/recipes` and in the file's header)
- Intended use: splitting the counts of spots of a spatial transcriptomics slide over finer pixels, for any species,
  tissue, platform and gene panel, after calibration on the slide itself.
- Not intended for: diagnosis; single-cell calls; tissue between spots that was not measured.

## Trained on

| slide | study | license (of its repository) |
|---|---|---|
{slides}

Training also uses {n_procedural} procedural tissues, which `napari_srast.simulation.tissues` generates from seeds.
They are not scored.

Licenses are those of the repositories from which the files came. Most repositories state no license for the data.

## Scores on held-out studies

The studies are split into {recipe.folds} folds. Each network is scored on pseudo-slides of the held-out studies. Cells
hold nats per count over the uniform split / within-spot PCC of single genes, as means over pseudo-slides ("cases").
`srast` is the default method: the `calibrated pool`, fitted on each pseudo-slide with the study-level prior of the
other folds, averaged with the `intensity field`. `prior weights` is the pool with the prior's weights, without this
calibration, `network alone` is the mean of the flow, and `gp+sasa` is the prior map of the network. The best baseline
of each case is chosen on the truth.

{score_text}

The shipped checkpoint is trained on all studies, so it has no scores on them. Mean weights of the study-level prior (at
zero counts, and the change up to 100 counts): {weights}.

## Limits

In mosaics, where neighboring cells differ in type without a pattern between spots, no method can recover much: expect
gains near zero. Detail finer than about half a pitch is inferred from the statistics of other tissues. Standard
deviations and intervals are those of a Dirichlet-multinomial whose concentration is fitted on the coarsened slide. They
are calibrated on average over a slide's genes, not for each gene.
""",
        encoding="utf-8",
    )


def _describe_scores(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of studies and its summary in words."""
    summary = summarize(rows)
    nats, pcc = summary["nats_per_count"], summary["within_spot_pcc"]
    return f"""{study_table(rows)}

The default gains {nats["ratio_to_best_of_each_case"]:.2f} times the nats of the best baseline of each case and
{nats["ratio_to_best_single"]:.2f} times those of the best single baseline ({nats["best_single_baseline"]}). Its
within-spot PCC is {pcc["ratio_to_best_of_each_case"]:.2f} and {pcc["ratio_to_best_single"]:.2f} times theirs. Of
{summary["n_cases"]} cases, {summary["cases_below"]} are below their best baseline, {summary["cases_behind"]} of them by
more than two standard errors. The 80 % intervals cover {summary["coverage_80_calibrated_all"]:.0%} of the true
counts."""
