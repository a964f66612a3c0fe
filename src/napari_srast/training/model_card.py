"""The model card beside a checkpoint: data with licenses, recipe, scores on unseen studies, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_srast.calibration.prior import CalibrationPriors
from napari_srast.calibration.weights import EXPERT_NAMES
from napari_srast.training.score_report import study_table, summarize

if TYPE_CHECKING:
    from napari_srast.training.recipe import Recipe

__all__ = ["write_card"]


def write_card(
    path: Path, recipe: Recipe, scores: Sequence[Mapping[str, Any]], fleet: CalibrationPriors, sha256: str
) -> None:
    """Write the model card of a checkpoint.

    Parameters
    ----------
    path
        Where to.
    recipe
        Slides with licenses, folds.
    scores
        Rows of :func:`napari_srast.training.cross_validation.score_folds`.
    fleet, sha256
        The calibration's prior, and the digest of the checkpoint.
    """
    real = [source for source in recipe.sources if source.path is not None]
    data = "\n".join(f"| {s.name} | {s.study} | {recipe.licenses[s.name]} |" for s in real)
    made_up = len(recipe.sources) - len(real)
    told = _scores(scores) if scores else "None: the recipe has no folds."
    weights = ", ".join(
        f"{e} {a:.2f} {b:+.2f}"
        for e, a, b in zip(EXPERT_NAMES, fleet.pool.weights[0], fleet.pool.weights[1], strict=True)
    )
    path.write_text(
        f"""# Model card: {recipe.name}

An endpoint-flow network (PCFM) on features of a graph VAE that is fitted to each slide (SASA); see the method page of
the documentation. An independent implementation of the published description of SRast (arXiv 2602.10644): not the
paper's weights, and the paper's figures are not claimed for it.

- File: `{recipe.output.name}`, sha256 `{sha256}`
- Made by: `napari-srast train {recipe.name}.toml` (the recipe is in `training/recipes` and in the file's header)
- Intended use: splitting the counts of spots of a spatial transcriptomics slide over finer pixels, for any species,
  tissue, platform and gene panel, after calibration on the slide itself.
- Not for: diagnosis; single-cell calls; places between spots that were never measured.

## Trained on

| slide | study | license (of its repository) |
|---|---|---|
{data}

And on {made_up} procedural tissues, made up by `training/tissues` from seeds; nothing is scored on these.

Licenses are those of the repositories that the files came from; mostly none was stated for the data themselves.

## Scores on studies never trained on

{recipe.folds} folds of studies; each network is scored on pseudo-slides of the studies left out. Nats per count over
the even split / within-spot PCC of single genes, mean over cases. `srast` is the default, calibrated on each
pseudo-slide itself with the other folds as prior; `fleet weights` is the same without its own calibration, `network
alone` the flow's mean, `gp+sasa` its prior. The best baseline of each case is chosen on the truth.

{told}

The checkpoint that is shipped is trained on all studies, so no score of it on them is given. Fleet weights (at no
counts, and the change up to 100 counts): {weights}.

## Where it fails

Spots in which neighboring cells are of unlike types without any pattern between spots (mosaics) hold little that any
method can recover: expect gains near zero there. Deep detail below about half a pitch is guessed from the statistics of
other tissues. Standard deviations and intervals are those of a Dirichlet-multinomial whose concentration is fitted on
the slide coarsened once: calibrated on average over a slide's genes, not for each gene.
""",
        encoding="utf-8",
    )


def _scores(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tell the table of studies, and what it comes to."""
    found = summarize(rows)
    nats, pcc = found["nats_per_count"], found["within_spot_pcc"]
    return f"""{study_table(rows)}

The default gains {nats["ratio_to_best_of_each_case"]:.2f} times the nats of the best baseline of each case, and
{nats["ratio_to_best_single"]:.2f} times those of the best single one ({nats["best_single_baseline"]}); of the
within-spot PCC {pcc["ratio_to_best_of_each_case"]:.2f} and {pcc["ratio_to_best_single"]:.2f} times. Of
{found["n_cases"]} cases {found["cases_below"]} are below their best baseline, {found["cases_behind"]} of them by more
than two standard errors.
Its 80 % intervals cover {found["coverage_80_calibrated_all"]:.0%} of the true counts."""
