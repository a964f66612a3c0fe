"""Measure what each part of the method contributes: train without it and score on held-out studies.

``python -m napari_srast.training.ablation RECIPE.toml -o FOLDER`` trains a network for each variant, seed and fold.
Each training has few steps and uses one pseudo-slide of each real study and some of its genes. The results are saved in
FOLDER/ablation.json and their table in FOLDER/ablation.md, so an interrupted run resumes and more seeds can be added
later.

All variants use the same pseudo-slides, fields and random numbers. They differ in one entry of :data:`VARIANTS`.

Shape legend: N spots, D latent width.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_srast._utils.threads import single_threaded_torch
from napari_srast.errors import SrastError
from napari_srast.interpolation.denoising import spatial_mean_matrix
from napari_srast.models.pcfm.network import DiTConfig
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.embedding import SlideEmbedding, spot_context
from napari_srast.training.cross_validation import NETWORK_ALONE, PRIOR_WEIGHTS, SASA_GP, score_folds
from napari_srast.training.lattice_sampling import make_pseudo_slides
from napari_srast.training.prior_fitting import Fold
from napari_srast.training.pseudo_slides import (
    CACHE_FORMAT,
    PseudoSlide,
    with_embedding,
)
from napari_srast.training.recipe import Recipe, read_recipe
from napari_srast.training.score_report import POOL, mean_of_studies
from napari_srast.training.signed_cache import load_or_create
from napari_srast.training.sources import PseudoSlideSettings
from napari_srast.training.trainer import TrainerConfig, train_flow

__all__ = ["VARIANTS", "Ablation", "Variant", "ablation_table", "run_ablation"]

_REFERENCE = "gp+denoised"
_SCORED = (POOL, PRIOR_WEIGHTS, NETWORK_ALONE, SASA_GP, _REFERENCE)
_KINDS = ("nats_per_count", "within_spot_pcc")


def _components_as_latents(embedding: SlideEmbedding, centers: np.ndarray) -> SlideEmbedding:
    """Replace the latents by standardized principal components: no graph VAE."""
    latent = np.zeros_like(embedding.latent)
    leading = embedding.components[:, : latent.shape[1]]
    latent[:, : leading.shape[1]] = (leading - leading.mean(axis=0)) / np.maximum(leading.std(axis=0), 1e-6)
    return replace(embedding, latent=latent, context=spot_context(embedding.components, latent, centers))


def _no_features(embedding: SlideEmbedding, centers: np.ndarray) -> SlideEmbedding:
    """Keep coordinates and totals only: no latents, no components, spatial neighbors only."""
    latent = np.zeros_like(embedding.latent)
    components = np.zeros((len(latent), 0), dtype=embedding.components.dtype)
    return replace(embedding, latent=latent, components=components, context=spatial_mean_matrix(centers))


def _raw_latents(embedding: SlideEmbedding, centers: np.ndarray) -> SlideEmbedding:
    """Use the latents of the encoder without normalization."""
    raw = embedding.raw_latent.astype(np.float32)
    return replace(embedding, latent=raw, context=spot_context(embedding.components, raw, centers))


def _latent_directions(embedding: SlideEmbedding, centers: np.ndarray) -> SlideEmbedding:
    """Take directions of the centered raw latents: their inner products depend neither on rotation nor on scale."""
    raw = embedding.raw_latent - embedding.raw_latent.mean(axis=0)
    unit = (raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    return replace(embedding, latent=unit, context=spot_context(embedding.components, unit, centers))


def _spatial_neighbors_only(embedding: SlideEmbedding, centers: np.ndarray) -> SlideEmbedding:
    """Use the context of spatial neighbors only."""
    return replace(embedding, context=spatial_mean_matrix(centers))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change of the method.

    Parameters
    ----------
    title
        Description of the change, a row title of the table.
    change_embedding
        Function from the embedding of a pseudo-slide and the spot centers, in pitches, to a changed embedding. It also
        applies to the coarsened pseudo-slide. None keeps SASA's embedding.
    sasa
        Changed entries of :class:`napari_srast.models.sasa.config.SasaConfig`.
    trainer
        Changed entries of :class:`napari_srast.training.trainer.TrainerConfig`.
    """

    title: str
    change_embedding: Callable[[SlideEmbedding, np.ndarray], SlideEmbedding] | None = None
    sasa: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)


VARIANTS: dict[str, Variant] = {
    "full": Variant(title="full method"),
    "components": Variant(title="SASA off: principal components as latents", change_embedding=_components_as_latents),
    "nothing": Variant(title="no features: coordinates and totals only", change_embedding=_no_features),
    "spatial": Variant(title="spatial edges only", sasa={"n_expression": 0}, change_embedding=_spatial_neighbors_only),
    "raw": Variant(title="Latent Norm off: raw latents", change_embedding=_raw_latents),
    "cosine": Variant(
        title="rotation-invariant instead: directions of raw latents", change_embedding=_latent_directions
    ),
    "seams": Variant(title="boundary term off", trainer={"boundary_weight": 0.0}),
    "regression": Variant(title="direct regression instead of the flow", trainer={"mean_share": 1.0}),
}
"""The full method and its variants. "Calibration off" is a column of each row. The maps of gene programs are compared
with the per-gene flow in :func:`napari_srast.training.score_tables.program_table`, on all pseudo-slides."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Configure an ablation study.

    Parameters
    ----------
    recipe
        Recipe with the slides, the sizes of the network and the SASA settings.
    folder
        Folder for cached pseudo-slides and results.
    steps
        Optimizer steps of each training.
    fields, groups
        Numbers of single genes and of gene groups of a pseudo-slide.
    folds
        Number of folds of studies.
    """

    recipe: Recipe
    folder: Path
    steps: int = 250
    fields: int = 24
    groups: int = 4
    folds: int = 2

    def pseudo_slides(self, variant: Variant) -> list[PseudoSlide]:
        """Make the pseudo-slides of a variant, one of each real study, or load them from the cache."""
        sasa = SasaConfig(**{**self.recipe.sasa, **variant.sasa})
        budget = {"fields": self.fields, "groups": self.groups, "windows": 0}
        settings = PseudoSlideSettings(**{**self.recipe.cases, **budget})
        first_of_study = {s.study: replace(s, cases=1) for s in reversed(self.recipe.sources) if s.path is not None}
        folder = self.folder / "cases"
        folder.mkdir(parents=True, exist_ok=True)
        pseudo_slides: list[PseudoSlide] = []
        for source in first_of_study.values():
            cache_file = folder / f"{source.name}_{sasa.n_expression}_{self.fields}_{CACHE_FORMAT}.cases"
            pseudo_slides += load_or_create(
                cache_file, partial(make_pseudo_slides, source, settings, sasa, self.recipe.seed)
            )
        if variant.change_embedding is None:
            return pseudo_slides
        return [_change_embedding(variant.change_embedding, one) for one in pseudo_slides]

    def train(self, variant: Variant, seed: int) -> list[Fold]:
        """Train the networks of a variant, one per fold, without the fold's studies."""
        pseudo_slides = self.pseudo_slides(variant)
        studies = sorted({one.study for one in pseudo_slides})
        trainer = TrainerConfig(**{**self.recipe.trainer, "steps": self.steps, "seed": seed, **variant.trainer})
        folds = []
        for held_out in (set(studies[i :: self.folds]) for i in range(self.folds)):
            seen = [one for one in pseudo_slides if one.study not in held_out]
            network, _ = train_flow(seen, trainer, DiTConfig(**self.recipe.network), accelerator="cpu")
            folds.append(Fold(network=network, unseen=[one for one in pseudo_slides if one.study in held_out]))
        return folds


def _change_embedding(
    change: Callable[[SlideEmbedding, np.ndarray], SlideEmbedding], pseudo_slide: PseudoSlide
) -> PseudoSlide:
    """Change the embedding of a pseudo-slide and of its coarsened versions."""
    centers = pseudo_slide.layout.spots / pseudo_slide.layout.pitch
    changed = with_embedding(pseudo_slide, change(pseudo_slide.embedding, centers))
    return replace(changed, coarsened=tuple(_change_embedding(change, one) for one in changed.coarsened))


def score_variant(folds: Sequence[Fold]) -> dict[str, list[dict[str, Any]]]:
    """Return the scores of a variant's networks on their held-out pseudo-slides.

    Returns
    -------
    dict
        For each scored method one record per pseudo-slide: study, nats per count and within-spot PCC.
    """
    rows = score_folds(folds, baselines=(_REFERENCE,))
    return {
        method: [{"study": row["study"], **{kind: row["methods"][method][kind] for kind in _KINDS}} for row in rows]
        for method in _SCORED
    }


def ablation_table(results: dict[str, Any]) -> str:
    """Return a Markdown table of the variants: nats per count / within-spot PCC, means over studies and seeds.

    The change compares the network alone with that of the full method and the same seed; its standard error is over
    studies, of the means over seeds. The standard deviation of the full method over seeds shows the effect of chance.

    Parameters
    ----------
    results
        Results by variant and seed: the entry "variants" of ablation.json.
    """
    lines = [
        "| variant | calibrated pool | calibration off | network alone | its prior | change of the network, nats "
        "| seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    full = results.get("full", {})
    for name, variant in VARIANTS.items():
        runs = results.get(name, {})
        if not runs:
            continue
        cells = []
        for method in (POOL, PRIOR_WEIGHTS, NETWORK_ALONE, SASA_GP):
            means = [
                [mean_of_studies(run[method], [r[kind] for r in run[method]]) for kind in _KINDS]
                for run in runs.values()
            ]
            nats, pcc = np.mean(means, axis=0)
            cells.append(f"{nats:.4f} / {pcc:.3f}")
        common_seeds = [seed for seed in runs if seed in full]
        if name == "full":
            by_seed = [
                mean_of_studies(run[NETWORK_ALONE], [r["nats_per_count"] for r in run[NETWORK_ALONE]])
                for run in runs.values()
            ]
            change = f"(± {np.std(by_seed, ddof=1):.4f} over seeds)" if len(by_seed) > 1 else ""
        else:
            change = _mean_change([(runs[seed][NETWORK_ALONE], full[seed][NETWORK_ALONE]) for seed in common_seeds])
        lines.append(f"| {variant.title} | {' | '.join(cells)} | {change} | {len(runs)} |")
    return "\n".join(lines)


def _page(results: dict[str, Any]) -> str:
    """Return the content of ablation.md."""
    budget = ", ".join(f"{name} {value}" for name, value in results["budget"].items())
    return f"Budget: {budget}.\n\n{ablation_table(results['variants'])}\n"


def _mean_change(pairs: Sequence[tuple[list[dict[str, Any]], list[dict[str, Any]]]]) -> str:
    """Return the mean over studies of the paired change in nats, with its standard error, as text."""
    if not pairs:
        return ""
    by_study: dict[str, list[float]] = {}
    for changed, full in pairs:
        for a, b in zip(changed, full, strict=True):
            by_study.setdefault(a["study"], []).append(a["nats_per_count"] - b["nats_per_count"])
    means = np.array([np.mean(values) for values in by_study.values()])
    return f"{means.mean():+.4f} ± {means.std(ddof=1) / np.sqrt(len(means)):.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m napari_srast.training.ablation", description=__doc__)
    parser.add_argument("recipe", type=Path, help="the recipe, a .toml file")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for pseudo-slides and ablation.json")
    parser.add_argument("--steps", type=int, default=Ablation.steps, help="optimizer steps of each training")
    parser.add_argument(
        "--seeds", type=int, default=2, help="trainings of each variant and fold, each with another seed"
    )
    parser.add_argument("--only", nargs="*", choices=[*VARIANTS], help="run only these variants")
    options = parser.parse_args(arguments)
    try:
        ablation = Ablation(recipe=read_recipe(options.recipe), folder=options.out, steps=options.steps)
        results = run_ablation(ablation, seeds=options.seeds, only=options.only)
    except SrastError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(_page(results))
    return 0


def run_ablation(ablation: Ablation, *, seeds: int = 2, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Train and score the missing variants, seed by seed.

    Parameters
    ----------
    ablation
        Configuration. Results that were saved with another budget are discarded.
    seeds
        Number of trainings of each variant and fold.
    only
        Names of the variants to run; None for all.

    Returns
    -------
    dict
        "budget" and "variants": all results, also those of earlier runs. They are saved in the ablation's folder.
    """
    results_file = ablation.folder / "ablation.json"
    budget = {"steps": ablation.steps, "fields": ablation.fields, "folds": ablation.folds}
    results: dict[str, Any] = {"budget": budget, "variants": {}}
    if results_file.exists():
        saved = json.loads(results_file.read_text(encoding="utf-8"))
        results = saved if saved["budget"] == budget else results  # other budgets are not comparable

    def save() -> None:
        results_file.parent.mkdir(parents=True, exist_ok=True)
        results_file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        results_file.with_suffix(".md").write_text(_page(results), encoding="utf-8")

    with single_threaded_torch():
        for seed in range(seeds):
            for name, variant in VARIANTS.items():
                runs = results["variants"].setdefault(name, {})
                if str(seed) in runs or (only is not None and name not in only):
                    continue
                runs[str(seed)] = score_variant(ablation.train(variant, seed))
                save()
                sys.stderr.write(f"{name}, seed {seed}\n")
    return results


if __name__ == "__main__":
    sys.exit(main())
