"""Trainer: the flow gains on a held-out study, and an interrupted training gives the same result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.scores import gain_per_gene

from napari_srast.calibration.pooling import EXPERT_NAMES
from napari_srast.core.progress import Progress, RunMonitor
from napari_srast.models.pcfm.network import DiTConfig
from napari_srast.training.prior_fitting import predict_pseudo_slide
from napari_srast.training.pseudo_slides import PseudoSlide
from napari_srast.training.trainer import TrainerConfig, train_flow

SMALL = DiTConfig(width=16, depth=1, heads=2)


def test_training_gains_on_a_held_out_study(pseudo_slides: list[PseudoSlide]) -> None:
    seen, unseen = ([one for one in pseudo_slides if one.study == name] for name in "ab")
    config = TrainerConfig(steps=120, patch_spots=16, patch_fields=8, warmup=10, ema=0.9)
    network, losses = train_flow(seen, config, SMALL, accelerator="cpu")
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    predictions = predict_pseudo_slide(network, unseen[0])
    log_ratio = predictions.log_experts[EXPERT_NAMES.index("pcfm")]
    assert np.nanmean(gain_per_gene(log_ratio, predictions.truth, predictions.layout)) > 0


def test_interrupted_training_gives_the_same_result(pseudo_slides: list[PseudoSlide], tmp_path: Path) -> None:
    config = TrainerConfig(steps=12, patch_spots=8, patch_fields=4, checkpoint_every=5)
    short, short_losses = train_flow(pseudo_slides, config, SMALL, accelerator="cpu")

    class Interrupted(Exception):
        pass

    def interrupt(step: Progress) -> None:
        raise Interrupted

    state = tmp_path / "run.state"
    longer = TrainerConfig(steps=40, patch_spots=8, patch_fields=4, checkpoint_every=5)
    monitor = RunMonitor(on_progress=interrupt)
    with pytest.raises(Interrupted):
        train_flow(pseudo_slides, longer, SMALL, accelerator="cpu", state_file=state, monitor=monitor)
    uninterrupted, losses = train_flow(pseudo_slides, longer, SMALL, accelerator="cpu")
    resumed, resumed_losses = train_flow(pseudo_slides, longer, SMALL, accelerator="cpu", state_file=state)
    assert resumed_losses == losses
    for a, b in zip(uninterrupted.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert len(short_losses) == 12
    assert short.config == SMALL
