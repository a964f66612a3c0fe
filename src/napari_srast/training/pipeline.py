"""Train a checkpoint from a recipe: pseudo-slides, one network per fold, scores, priors, model card.

Each fold's network is scored on the studies that are held out of its training, and the study-level prior of the
calibration is fitted there. The checkpoint itself is trained on all studies. Every stage is saved when it ends, so an
interrupted run resumes where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np
import torch

from napari_srast._utils.threads import limit_torch_to_one_thread, single_threaded_torch
from napari_srast._version import __version__
from napari_srast.checkpoints.storage import save_checkpoint
from napari_srast.core.progress import NO_MONITOR, CancelCheck, Progress, ProgressCallback, RunMonitor
from napari_srast.errors import InputError, SettingsError
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.training.cross_validation import score_folds
from napari_srast.training.lattice_sampling import make_pseudo_slides
from napari_srast.training.model_card import write_model_card
from napari_srast.training.prior_fitting import Fold, fit_fold_priors
from napari_srast.training.pseudo_slides import CACHE_FORMAT, PseudoSlide
from napari_srast.training.recipe import Recipe, read_recipe
from napari_srast.training.signed_cache import load_or_create
from napari_srast.training.sources import PseudoSlideSettings, SourceSlide
from napari_srast.training.trainer import TrainerConfig, train_flow

__all__ = ["held_out_slides", "train_folds", "train_from_recipe"]

_MIN_SOURCES_FOR_PROCESSES = 8  # uncached sources; fewer are made in this process
_MIN_STEPS_FOR_PROCESSES = 200  # steps of a training; shorter ones run in this process

_process_pseudo_slides: list[PseudoSlide] = []
"""Pseudo-slides of a training process, loaded once when the process starts."""


def train_from_recipe(
    path: str | Path, *, progress: ProgressCallback | None = None, should_stop: CancelCheck | None = None
) -> Path:
    """Train a checkpoint from a recipe; an interrupted run resumes.

    Parameters
    ----------
    path
        The recipe, a .toml file.
    progress
        Receives the stages "pseudo-slides", "all slides", "fold 0" and so on, and "score"; trainings in processes of
        their own report in turns.
    should_stop
        Returns True once the training should end; what is finished is kept, and the next run resumes.

    Returns
    -------
    Path
        The checkpoint. Its model card is next to it; the scores and the folds' checkpoints are in the work folder.

    Raises
    ------
    InputError
        The recipe or one of its slides cannot be read.
    SettingsError
        An entry of the recipe is not valid.
    Cancelled
        ``should_stop`` returned True.
    """
    recipe = read_recipe(path)
    try:
        sasa, _, _ = SasaConfig(**recipe.sasa), DiTConfig(**recipe.network), _trainer_config(recipe)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"The recipe '{path}' has an entry that cannot be used ({error}); correct it.") from error
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    recipe.work.mkdir(parents=True, exist_ok=True)
    with single_threaded_torch():  # batches are small, so a second thread costs more than it saves
        pseudo_slides = _load_pseudo_slides(recipe, sasa, monitor)
        _train_in_parallel(recipe, len(_split_into_folds(recipe, pseudo_slides)), monitor)
        model, losses = _train(recipe, pseudo_slides, None, monitor)
        folds = train_folds(recipe, monitor)
        fold_priors, prior = fit_fold_priors(folds)
        scores = score_folds(folds, monitor, priors=fold_priors)
    (recipe.work / "scores.json").write_text(json.dumps(scores, indent=1))
    record = {
        "recipe": recipe.text,
        "version": __version__,
        "slides": recipe.licenses,
        "final_loss": float(np.mean(losses[-200:])),
    }
    for i, (fold, fold_prior) in enumerate(zip(folds, fold_priors, strict=True)):
        # A complete run may only be scored with the network of the fold that holds the slide out.
        held_out = {"held_out": held_out_slides(recipe, fold)}
        save_checkpoint(recipe.work / f"fold{i}.safetensors", fold.network, sasa, fold_prior, record | held_out)
    sha256 = save_checkpoint(recipe.output, model, sasa, prior, record)
    (recipe.work / "losses.json").write_text(json.dumps(losses))
    write_model_card(recipe.output.with_suffix(".md"), recipe, scores, prior, sha256)
    return recipe.output


def train_folds(recipe: Recipe, monitor: RunMonitor = NO_MONITOR) -> list[Fold]:
    """Train one network per fold, without the fold's studies; finished trainings are loaded.

    Parameters
    ----------
    recipe
        The recipe; its work folder holds the cached pseudo-slides and the resumable states.
    monitor
        Receives the reports and can cancel the trainings.

    Returns
    -------
    list of Fold
        Each network with the scored pseudo-slides of its held-out studies.
    """
    recipe.work.mkdir(parents=True, exist_ok=True)
    folds = []
    with single_threaded_torch():
        pseudo_slides = _load_pseudo_slides(recipe, SasaConfig(**recipe.sasa), monitor)
        for i, held_out in enumerate(_split_into_folds(recipe, pseudo_slides)):
            network, _ = _train(recipe, pseudo_slides, i, monitor)
            unseen = [one for one in pseudo_slides if one.study in held_out and one.scored]
            folds.append(Fold(network=network, unseen=unseen))
    return folds


def held_out_slides(recipe: Recipe, fold: Fold) -> list[str]:
    """Return the names of the slides of a recipe that belong to the held-out studies of a fold."""
    studies = {one.study for one in fold.unseen}
    return sorted(source.name for source in recipe.sources if source.study in studies)


def _trainer_config(recipe: Recipe) -> TrainerConfig:
    return TrainerConfig(**{"seed": recipe.seed, **recipe.trainer})


def _train(
    recipe: Recipe, pseudo_slides: Sequence[PseudoSlide], fold: int | None, monitor: RunMonitor
) -> tuple[DiT, list[float]]:
    """Train on all studies (``fold`` is None) or on those outside a fold; resume from a saved state."""
    held_out = set() if fold is None else _split_into_folds(recipe, pseudo_slides)[fold]
    return train_flow(
        [one for one in pseudo_slides if one.study not in held_out],
        _trainer_config(recipe),
        DiTConfig(**recipe.network),
        state_file=_state_file(recipe, "all" if fold is None else f"fold{fold}"),
        monitor=monitor,
        stage="all slides" if fold is None else f"fold {fold}",
    )


def _train_in_parallel(recipe: Recipe, n_folds: int, monitor: RunMonitor) -> None:
    """Train all networks in one process per core and leave their final states; do nothing on a GPU.

    A training uses one thread, so two networks on two cores take the time of one.
    """
    stages = [None, *range(n_folds)]
    n_processes = min(len(stages), os.cpu_count() or 1)
    steps = _trainer_config(recipe).steps
    if torch.cuda.is_available() or n_processes == 1 or steps < _MIN_STEPS_FOR_PROCESSES:
        return
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(n_processes, context, _start_training_process, (recipe,)) as processes,
    ):
        messages, halted = manager.Queue(), manager.Event()
        running = {processes.submit(_train_in_process, recipe, stage, messages, halted) for stage in stages}
        try:
            while running:
                monitor.check_canceled()
                finished = {future for future in running if future.done()}
                for future in finished:
                    future.result()
                running -= finished
                try:
                    step = messages.get(timeout=1)
                except queue.Empty:
                    continue
                monitor.report(step.stage, step.done, step.total, step.detail)
        except BaseException:  # also Ctrl-C: the processes save their states and end
            halted.set()
            processes.shutdown(wait=True, cancel_futures=True)
            raise


def _start_training_process(recipe: Recipe) -> None:
    """Load the pseudo-slides into a new process."""
    limit_torch_to_one_thread()
    _process_pseudo_slides[:] = _load_pseudo_slides(recipe, SasaConfig(**recipe.sasa), NO_MONITOR)


def _train_in_process(
    recipe: Recipe, fold: int | None, messages: queue.Queue[Progress], halted: threading.Event
) -> None:
    """Train one network in a process of the pool and send its progress back."""
    _train(recipe, _process_pseudo_slides, fold, RunMonitor(on_progress=messages.put, should_stop=halted.is_set))


def _split_into_folds(recipe: Recipe, pseudo_slides: Sequence[PseudoSlide]) -> list[set[str]]:
    """Distribute the studies of real slides over folds; procedural tissues are never held out."""
    real = {source.study for source in recipe.sources if not source.is_procedural}
    studies = sorted({one.study for one in pseudo_slides} & real)
    n_folds = min(recipe.folds, len(studies))
    if n_folds < 2:
        return []
    return [set(studies[i::n_folds]) for i in range(n_folds)]


def _load_pseudo_slides(recipe: Recipe, sasa: SasaConfig, monitor: RunMonitor) -> list[PseudoSlide]:
    """Make the pseudo-slides of a recipe, or load those that an interrupted run cached."""
    settings = PseudoSlideSettings(**recipe.cases)
    cache_file = partial(_cache_file, recipe.work, settings, sasa, recipe.seed)
    load = partial(_load_source, recipe.work, settings, sasa, recipe.seed)
    uncached = [source for source in recipe.sources if not cache_file(source).is_file()]
    if len(uncached) >= _MIN_SOURCES_FOR_PROCESSES:
        # Threads would wait for each other, and a forked process could inherit a lock that nobody releases.
        n_processes = min(len(uncached), os.cpu_count() or 1)
        with ProcessPoolExecutor(
            n_processes, multiprocessing.get_context("spawn"), limit_torch_to_one_thread
        ) as processes:
            futures = {processes.submit(_cache_source, load, source): source for source in uncached}
            try:
                for i, future in enumerate(as_completed(futures)):
                    future.result()
                    monitor.report("pseudo-slides", i + 1, len(uncached), futures[future].name)
                    monitor.check_canceled()
            except BaseException:
                processes.shutdown(wait=True, cancel_futures=True)
                raise
    pseudo_slides: list[PseudoSlide] = []
    for i, source in enumerate(recipe.sources):
        monitor.check_canceled()
        pseudo_slides += load(source)
        monitor.report("pseudo-slides", i + 1, len(recipe.sources), source.name)
    if not pseudo_slides:
        raise InputError("No slide of the recipe is large enough to train on; add larger slides.")
    return pseudo_slides


def _cache_file(folder: Path, settings: PseudoSlideSettings, sasa: SasaConfig, seed: int, source: SourceSlide) -> Path:
    """Return the cache file of a source; its name depends on everything that its pseudo-slides depend on."""
    return folder / f"{source.name}.{_digest(CACHE_FORMAT, settings, sasa, seed, source)}.cases"


def _state_file(recipe: Recipe, stage: str) -> Path:
    """Return the file of a training's resumable state."""
    parts = (recipe.cases, recipe.sasa, recipe.network, recipe.trainer, recipe.seed, recipe.sources, recipe.folds)
    return recipe.work / f"{stage}.{_digest(*parts)}.state"


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=4).hexdigest()


def _load_source(
    folder: Path, settings: PseudoSlideSettings, sasa: SasaConfig, seed: int, source: SourceSlide
) -> list[PseudoSlide]:
    """Return the pseudo-slides of one source, new or from the cache."""
    cache_file = _cache_file(folder, settings, sasa, seed, source)
    return load_or_create(cache_file, partial(make_pseudo_slides, source, settings, sasa, seed))


def _cache_source(load: Callable[[SourceSlide], list[PseudoSlide]], source: SourceSlide) -> None:
    """Fill the cache of one source in a process; nothing is sent back."""
    load(source)
