"""What each part of the method earns: trained again without it, scored on studies never trained on.

``python -m napari_srast.training.ablation RECIPE.toml -o FOLDER`` trains a network for each variant, seed and fold, for
few steps on one pseudo-slide of each real study and some of its genes, and scores it on the studies left out. Finished
variants are kept in FOLDER/ablation.json, their table in ablation.md: a run that was killed goes on, and more seeds can
be asked for later.

All variants see the same pseudo-slides, fields and random numbers. What differs is one entry of :data:`VARIANTS`.

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

from napari_srast._utils.devices import one_thread
from napari_srast.errors import SrastError
from napari_srast.interpolation.denoising import mean_of_near
from napari_srast.models.pcfm.network import DiTConfig
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.embedding import SlideEmbedding, spot_context
from napari_srast.training.cross_validation import FLEET, NETWORK, SASA_GP, score_folds
from napari_srast.training.prior_fitting import Fold
from napari_srast.training.pseudo_slides import (
    PseudoSlide,
    PseudoSlideSettings,
    SourceSlide,
    make_pseudo_slides,
    with_pool,
)
from napari_srast.training.recipe import Recipe, read_recipe
from napari_srast.training.score_report import DEFAULT, mean_of_studies
from napari_srast.training.signed_cache import load_or_make
from napari_srast.training.trainer import TrainerConfig, train_flow

__all__ = ["VARIANTS", "Ablation", "Variant", "ablation_table", "run"]

_REFERENCE = "gp+denoised"
_SCORED = (DEFAULT, FLEET, NETWORK, SASA_GP, _REFERENCE)
_KINDS = ("nats_per_count", "within_spot_pcc")


def _components_instead(pool: SlideEmbedding, places: np.ndarray) -> SlideEmbedding:
    """Let standardized principal components stand for the latents: no graph VAE."""
    latent = np.zeros_like(pool.latent)
    leading = pool.components[:, : latent.shape[1]]
    latent[:, : leading.shape[1]] = (leading - leading.mean(axis=0)) / np.maximum(leading.std(axis=0), 1e-6)
    return replace(pool, latent=latent, context=spot_context(pool.components, latent, places))


def _nothing_instead(pool: SlideEmbedding, places: np.ndarray) -> SlideEmbedding:
    """Leave places and totals only: no latent, no components, neighbors in space alone."""
    nothing = np.zeros_like(pool.latent)
    components = np.zeros((len(nothing), 0), dtype=pool.components.dtype)
    return replace(pool, latent=nothing, components=components, context=mean_of_near(places))


def _without_norm(pool: SlideEmbedding, places: np.ndarray) -> SlideEmbedding:
    """Take the latents as the encoder gives them."""
    raw = pool.raw_latent.astype(np.float32)
    return replace(pool, latent=raw, context=spot_context(pool.components, raw, places))


def _cosine(pool: SlideEmbedding, places: np.ndarray) -> SlideEmbedding:
    """Take directions of the centerd raw latents: their inner products know no rotation and no scale."""
    raw = pool.raw_latent - pool.raw_latent.mean(axis=0)
    unit = (raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    return replace(pool, latent=unit, context=spot_context(pool.components, unit, places))


def _near_only(pool: SlideEmbedding, places: np.ndarray) -> SlideEmbedding:
    return replace(pool, context=mean_of_near(places))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change of the method.

    Parameters
    ----------
    title
        What is changed, in words.
    pool
        Changes the features of every pseudo-slide and of its checks, given spot centers in pitches; SASA's fit stays.
    sasa, trainer
        Changed entries of the configurations.
    """

    title: str
    pool: Callable[[SlideEmbedding, np.ndarray], SlideEmbedding] | None = None
    sasa: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)


VARIANTS: dict[str, Variant] = {
    "full": Variant(title="full method"),
    "components": Variant(title="SASA off: principal components as latents", pool=_components_instead),
    "nothing": Variant(title="no features at all: places and totals only", pool=_nothing_instead),
    "spatial": Variant(title="spatial edges only", sasa={"n_expression": 0}, pool=_near_only),
    "raw": Variant(title="Latent Norm off: raw latents", pool=_without_norm),
    "cosine": Variant(title="rotation-invariant instead: directions of raw latents", pool=_cosine),
    "seams": Variant(title="boundary term off", trainer={"boundary_weight": 0.0}),
    "regression": Variant(title="direct regression instead of the flow", trainer={"mean_share": 1.0}),
}
"""The full method and its variants; calibration off is a column of each. Genes by the maps that they share are compared
with genes one by one where all cases are scored: :func:`napari_srast.training.score_report.shared_table`."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """The reduced budget, and where everything lies.

    Parameters
    ----------
    recipe
        Slides, sizes of the network, SASA.
    folder
        Pseudo-slides and results.
    steps, fields, groups
        Of a training, and genes and sums of a pseudo-slide.
    folds
        Studies are dealt to so many folds.
    """

    recipe: Recipe
    folder: Path
    steps: int = 250
    fields: int = 24
    groups: int = 4
    folds: int = 2

    def cases(self, variant: Variant) -> list[PseudoSlide]:
        """Make the pseudo-slides of a variant, one of each real study, or load those that were made."""
        sasa = SasaConfig(**{**self.recipe.sasa, **variant.sasa})
        budget = {"fields": self.fields, "groups": self.groups, "windows": 0}
        settings = PseudoSlideSettings(**{**self.recipe.cases, **budget})
        first_of_study = {s.study: replace(s, cases=1) for s in reversed(self.recipe.sources) if s.path is not None}
        folder = self.folder / "cases"
        folder.mkdir(parents=True, exist_ok=True)
        cases: list[PseudoSlide] = []
        for source in first_of_study.values():
            kept = folder / f"{source.name}_{sasa.n_expression}_{self.fields}.cases"
            make = partial(_make, source, settings, sasa, self.recipe.seed)
            cases += load_or_make(kept, make)
        return cases if variant.pool is None else [_through(variant.pool, case) for case in cases]

    def trained(self, variant: Variant, seed: int) -> list[Fold]:
        """Train the variant's networks, each without a fold of studies."""
        cases = self.cases(variant)
        studies = sorted({case.study for case in cases})
        trainer = TrainerConfig(**{**self.recipe.trainer, "steps": self.steps, "seed": seed, **variant.trainer})
        folds = []
        for held in (set(studies[i :: self.folds]) for i in range(self.folds)):
            seen = [case for case in cases if case.study not in held]
            network, _ = train_flow(seen, trainer, DiTConfig(**self.recipe.network), accelerator="cpu")
            folds.append(Fold(network=network, unseen=[case for case in cases if case.study in held]))
        return folds


def _make(source: SourceSlide, settings: PseudoSlideSettings, sasa: SasaConfig, seed: int) -> list[PseudoSlide]:
    return list(make_pseudo_slides(source, settings, sasa, seed))


def _through(change: Callable[[SlideEmbedding, np.ndarray], SlideEmbedding], case: PseudoSlide) -> PseudoSlide:
    places = case.layout.spots / case.layout.pitch
    seen = with_pool(case, change(case.pool, places))
    return replace(seen, checks=tuple(_through(change, check) for check in case.checks))


def score_variant(folds: Sequence[Fold]) -> dict[str, list[dict[str, Any]]]:
    """Return for each scored method one record of each unseen case: study, nats per count, within-spot PCC."""
    rows = score_folds(folds, baselines=(_REFERENCE,))
    return {
        method: [{"study": row["study"], **{kind: row["methods"][method][kind] for kind in _KINDS}} for row in rows]
        for method in _SCORED
    }


def ablation_table(results: dict[str, Any]) -> str:
    """Return a Markdown table of the variants, nats per count / within-spot PCC, mean over studies and seeds.

    The change is that against the full method with the same seed, network alone; its spread is over studies (of the
    means over seeds), and the spread of the full method over seeds is what chance alone does.
    """
    lines = [
        "| variant | default | calibration off | network alone | its prior | change of the network, nats | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    full = results.get("full", {})
    for name, variant in VARIANTS.items():
        runs = results.get(name, {})
        if not runs:
            continue
        cells = []
        for method in (DEFAULT, FLEET, NETWORK, SASA_GP):
            means = [
                [mean_of_studies(run[method], [r[kind] for r in run[method]]) for kind in _KINDS]
                for run in runs.values()
            ]
            nats, pcc = np.mean(means, axis=0)
            cells.append(f"{nats:.4f} / {pcc:.3f}")
        shared = [seed for seed in runs if seed in full]
        if name == "full":
            by_seed = [
                mean_of_studies(run[NETWORK], [r["nats_per_count"] for r in run[NETWORK]]) for run in runs.values()
            ]
            change = f"(± {np.std(by_seed, ddof=1):.4f} over seeds)" if len(by_seed) > 1 else ""
        else:
            change = _change([(runs[seed][NETWORK], full[seed][NETWORK]) for seed in shared])
        lines.append(f"| {variant.title} | {' | '.join(cells)} | {change} | {len(runs)} |")
    return "\n".join(lines)


def _page(results: dict[str, Any]) -> str:
    budget = ", ".join(f"{name} {value}" for name, value in results["budget"].items())
    return f"Budget: {budget}.\n\n{ablation_table(results['variants'])}\n"


def _change(pairs: Sequence[tuple[list[dict[str, Any]], list[dict[str, Any]]]]) -> str:
    """Return the mean over studies of the paired change in nats, with its standard error over studies."""
    if not pairs:
        return ""
    by_study: dict[str, list[float]] = {}
    for ours, full in pairs:
        for a, b in zip(ours, full, strict=True):
            by_study.setdefault(a["study"], []).append(a["nats_per_count"] - b["nats_per_count"])
    means = np.array([np.mean(values) for values in by_study.values()])
    return f"{means.mean():+.4f} ± {means.std(ddof=1) / np.sqrt(len(means)):.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ablations; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m napari_srast.training.ablation", description=__doc__)
    parser.add_argument("recipe", type=Path, help="the recipe, a .toml file")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for pseudo-slides and ablation.json")
    parser.add_argument("--steps", type=int, default=Ablation.steps, help="optimizer steps of each training")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each variant and fold")
    parser.add_argument("--only", nargs="*", choices=[*VARIANTS], help="some of the variants")
    options = parser.parse_args(arguments)
    try:
        ablation = Ablation(recipe=read_recipe(options.recipe), folder=options.out, steps=options.steps)
        results = run(ablation, seeds=options.seeds, only=options.only)
    except SrastError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(_page(results))
    return 0


def run(ablation: Ablation, *, seeds: int = 2, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Train and score what is still missing of the variants, seed by seed; returns and keeps all results."""
    kept = ablation.folder / "ablation.json"
    budget = {"steps": ablation.steps, "fields": ablation.fields, "folds": ablation.folds}
    results: dict[str, Any] = {"budget": budget, "variants": {}}
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        results = found if found["budget"] == budget else results  # those of another budget compare with nothing

    def keep() -> None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        kept.with_suffix(".md").write_text(_page(results), encoding="utf-8")

    with one_thread():
        for seed in range(seeds):
            for name, variant in VARIANTS.items():
                runs = results["variants"].setdefault(name, {})
                if str(seed) in runs or (only is not None and name not in only):
                    continue
                runs[str(seed)] = score_variant(ablation.trained(variant, seed))
                keep()
                sys.stderr.write(f"{name}, seed {seed}\n")
    return results


if __name__ == "__main__":
    sys.exit(main())
