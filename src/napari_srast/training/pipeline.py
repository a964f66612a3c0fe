"""TODO docstring."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast._version import __version__
from napari_srast.errors import InputError, SettingsError
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.prior_fitting import Fold
from napari_srast.training.pseudo_slides import PseudoSlideSettings, SourceSlide
from napari_srast.training.recipe import Recipe, Report, read_recipe
from napari_srast.training.signed_cache import load_or_make
from napari_srast.training.trainer import TrainerConfig

if TYPE_CHECKING:
    from napari_srast.training.pseudo_slides import PseudoSlide

    pass


__all__ = ["train_folds", "train_from_recipe"]

_MANY, _MANY_STEPS = 8, 200  # sources without pseudo-slides, and steps of a training: worth processes of their own

_at_hand: list[PseudoSlide] = []
"""The pseudo-slides, in a process that trains: it loads them once."""


def train_from_recipe(path: str | Path, *, progress: Report | None = None) -> Path:
    """Train a checkpoint as a recipe says; resumes after an interruption.

    Parameters
    ----------
    path
        The recipe.
    progress
        Called with stage, done, total and a word on how it goes.

    Returns
    -------
    Path
        The checkpoint, its model card beside it; scores and the folds' own checkpoints lie in the work folder.
    """
    from napari_srast._utils.devices import one_thread
    from napari_srast.checkpoints.storage import save_checkpoint
    from napari_srast.models.pcfm.network import DiTConfig
    from napari_srast.models.sasa.config import SasaConfig
    from napari_srast.training.cross_validation import score_folds
    from napari_srast.training.model_card import write_card
    from napari_srast.training.prior_fitting import fit_fold_priors

    recipe = read_recipe(path)
    try:
        sasa, _, _ = SasaConfig(**recipe.sasa), DiTConfig(**recipe.network), _trainer(recipe)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"The recipe '{path}' has an entry that cannot be used ({error}); mend it.") from error
    report = progress or (lambda *_: None)
    recipe.work.mkdir(parents=True, exist_ok=True)
    with one_thread():  # the batches are small: a second thread costs more than it gives
        cases = _cases(recipe, sasa, report)
        _train_side_by_side(recipe, len(_folds(recipe, cases)), report)
        model, losses = _trained(recipe, cases, None, report)
        folds = train_folds(recipe, progress)
        fleets, fleet = fit_fold_priors(folds)
        scores = score_folds(folds, lambda done, total, name: report("score", done, total, name), fleets=fleets)
    (recipe.work / "scores.json").write_text(json.dumps(scores, indent=1))
    record = {
        "recipe": recipe.text,
        "version": __version__,
        "slides": recipe.licenses,
        "final_loss": float(np.mean(losses[-200:])),
    }
    for i, (fold, prior) in enumerate(zip(folds, fleets, strict=True)):
        # For scores of whole runs: a slide may only be scored with the network of the fold that has not seen it.
        save_checkpoint(recipe.work / f"fold{i}.safetensors", fold.network, sasa, prior, record)
    sha256 = save_checkpoint(recipe.output, model, sasa, fleet, record)
    (recipe.work / "losses.json").write_text(json.dumps(losses))
    write_card(recipe.output.with_suffix(".md"), recipe, scores, fleet, sha256)
    return recipe.output


def train_folds(recipe: Recipe, progress: Report | None = None) -> list[Fold]:
    """Train, or load where an earlier run did, a network without each fold of studies.

    Parameters
    ----------
    recipe
        Its work folder holds pseudo-slides and resumable states.
    progress
        As for :func:`train_from_recipe`.

    Returns
    -------
    list of Fold
        Each network with the cases of the studies that it has not seen.
    """
    from napari_srast._utils.devices import one_thread
    from napari_srast.models.sasa.config import SasaConfig
    from napari_srast.training.prior_fitting import Fold

    report = progress or (lambda *_: None)
    recipe.work.mkdir(parents=True, exist_ok=True)
    folds = []
    with one_thread():
        cases = _cases(recipe, SasaConfig(**recipe.sasa), report)
        for i, held in enumerate(_folds(recipe, cases)):
            network, _ = _trained(recipe, cases, i, report)
            folds.append(Fold(network=network, unseen=[c for c in cases if c.study in held and c.scored]))
    return folds


def _trainer(recipe: Recipe) -> TrainerConfig:
    from napari_srast.training.trainer import TrainerConfig

    return TrainerConfig(**{"seed": recipe.seed, **recipe.trainer})


def _trained(recipe: Recipe, cases: Sequence[PseudoSlide], fold: int | None, report: Report) -> tuple[DiT, list[float]]:
    """Train on all slides, or on those outside a fold, from the state where an earlier run ended."""
    from napari_srast.models.pcfm.network import DiTConfig
    from napari_srast.training.trainer import train_flow

    held = set() if fold is None else _folds(recipe, cases)[fold]
    stage = "all slides" if fold is None else f"fold {fold}"
    return train_flow(
        [case for case in cases if case.study not in held],
        _trainer(recipe),
        DiTConfig(**recipe.network),
        state_file=_state_file(recipe, "all" if fold is None else f"fold{fold}"),
        progress=lambda step, steps, loss: report(stage, step, steps, f"loss {loss:.4f}"),
    )


def _train_side_by_side(recipe: Recipe, n_folds: int, report: Report) -> None:
    """Leave the states of finished trainings, made in as many processes as there are cores; on a GPU do nothing.

    A training is one thread's work: on two cores, two networks take the time of one.
    """
    import torch

    stages = [None, *range(n_folds)]
    n_processes = min(len(stages), os.cpu_count() or 1)
    steps = _trainer(recipe).steps
    if torch.cuda.is_available() or n_processes == 1 or steps < _MANY_STEPS:
        return
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(n_processes, context, _ready_to_train, (recipe,)) as processes,
    ):
        told = manager.Queue()
        running = {processes.submit(_train_apart, recipe, stage, told) for stage in stages}
        while running:
            finished = {one for one in running if one.done()}
            for one in finished:
                one.result()
            running -= finished
            try:
                report(*told.get(timeout=1))
            except queue.Empty:
                continue


def _ready_to_train(recipe: Recipe) -> None:
    """Load the pseudo-slides into a process of its own."""
    from napari_srast.models.sasa.config import SasaConfig

    _as_one_thread()
    _at_hand[:] = _cases(recipe, SasaConfig(**recipe.sasa), lambda *_: None)


def _train_apart(recipe: Recipe, fold: int | None, told: queue.Queue[tuple[str, int, int, str]]) -> None:
    """Train in a process of its own."""
    _trained(recipe, _at_hand, fold, lambda *step: told.put(step))


def _folds(recipe: Recipe, cases: Sequence[Any]) -> list[set[str]]:
    """Deal the studies of real slides out to folds; procedural tissues are always trained on."""
    real = {source.study for source in recipe.sources if source.path is not None}
    studies = sorted({case.study for case in cases} & real)
    n_folds = min(recipe.folds, len(studies))
    if n_folds < 2:
        return []
    return [set(studies[i::n_folds]) for i in range(n_folds)]


def _cases(recipe: Recipe, sasa: SasaConfig, report: Report) -> list[PseudoSlide]:
    """Make the pseudo-slides, or load those that an interrupted run of the same recipe made."""
    from napari_srast.training.pseudo_slides import PseudoSlideSettings

    settings = PseudoSlideSettings(**recipe.cases)
    place = partial(_case_file, recipe.work, settings, sasa, recipe.seed)
    keep = partial(_kept_cases, recipe.work, settings, sasa, recipe.seed)
    missing = [source for source in recipe.sources if not place(source).is_file()]
    if len(missing) >= _MANY:
        # Threads would wait for each other, and a forked process may inherit a lock of theirs that nobody opens.
        n_processes = min(len(missing), os.cpu_count() or 1)
        with ProcessPoolExecutor(n_processes, multiprocessing.get_context("spawn"), _as_one_thread) as processes:
            made = {processes.submit(_keep, keep, source): source for source in missing}
            for i, done in enumerate(as_completed(made)):
                done.result()
                report("pseudo-slides", i + 1, len(missing), made[done].name)
    cases: list[PseudoSlide] = []
    for i, source in enumerate(recipe.sources):
        cases += keep(source)
        report("pseudo-slides", i + 1, len(recipe.sources), source.name)
    if not cases:
        raise InputError("No slide of the recipe is large enough to train on; add larger ones.")
    return cases


def _case_file(folder: Path, settings: PseudoSlideSettings, sasa: SasaConfig, seed: int, source: SourceSlide) -> Path:
    """Return where pseudo-slides are kept: another recipe in the same folder finds another name."""
    from napari_srast.training.pseudo_slides import CASE_FORMAT

    return folder / f"{source.name}.{_mark(CASE_FORMAT, settings, sasa, seed, source)}.cases"


def _state_file(recipe: Recipe, stage: str) -> Path:
    """Return where the state of a training is kept."""
    parts = (recipe.cases, recipe.sasa, recipe.network, recipe.trainer, recipe.seed, recipe.sources, recipe.folds)
    return recipe.work / f"{stage}.{_mark(*parts)}.state"


def _mark(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=4).hexdigest()


def _kept_cases(
    folder: Path, settings: PseudoSlideSettings, sasa: SasaConfig, seed: int, source: SourceSlide
) -> list[PseudoSlide]:
    """Return the pseudo-slides of one source, made or loaded."""
    from napari_srast.training.pseudo_slides import make_pseudo_slides

    file = _case_file(folder, settings, sasa, seed, source)
    return load_or_make(file, partial(make_pseudo_slides, source, settings, sasa, seed))


def _keep(keep: Callable[[SourceSlide], list[PseudoSlide]], source: SourceSlide) -> None:
    """Make and keep pseudo-slides, and bring none back."""
    keep(source)


def _as_one_thread() -> None:
    import torch

    torch.set_num_threads(1)
