"""No stage becomes slower: its processor time, relative to interpolation in the same run, against a reference.

If a stage is meant to cost more, measure a new reference, preferably on an idle computer:
``python tests/benchmarks/test_performance.py``.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from napari_srast.api import upsample
from napari_srast.benchmarks.synthetic_slide import simulate_slide
from napari_srast.checkpoints.storage import load_checkpoint
from napari_srast.core.progress import Progress
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.inference import fitted_slide
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.inference.methods import srast
from napari_srast.inference.methods.base import Block

REFERENCE = Path(__file__).with_name("reference_ratios.json")
GROWTH = 1.5
ROUNDS = 3  # the median counts, because the load of a computer varies from second to second
EPOCHS = 15  # of SASA: a tenth of the usual number
SPOTS, GENES, FEW_GENES = 200, 600, 40
MADE_WITH = {
    "machine": platform.machine(),
    "numpy": np.__version__,
    "torch": torch.__version__.split("+")[0],
}


@pytest.fixture(scope="module", autouse=True)
def _few_epochs() -> Iterator[None]:
    with few_epochs():
        yield


@pytest.fixture(scope="module")
def slide() -> Slide:
    return simulate_slide(SPOTS, GENES, seed=5)


@contextmanager
def few_epochs() -> Iterator[None]:
    """Fit SASA of the shipped model in a few epochs, and let most genes use program maps."""
    checkpoint = load_checkpoint("default")
    short = replace(checkpoint, sasa=replace(checkpoint.sasa, epochs=EPOCHS))
    flow_pairs = mock.patch.object(srast, "FLOW_PAIR_BUDGET", 10_000)
    with mock.patch.object(fitted_slide, "load_checkpoint", return_value=short), flow_pairs:
        yield


def stages(slide: Slide, method: str, n_genes: int, expression: str = "auto") -> dict[str, float]:
    """Return the processor time of each stage of a run, in seconds."""
    seconds: dict[str, float] = {}
    last = time.process_time()

    def lap(step: Progress) -> None:
        nonlocal last
        now = time.process_time()
        # Features are fitted and calibrated in parallel.
        stage = "split" if step.stage == "split" else "preparation"
        seconds[stage] = seconds.get(stage, 0.0) + now - last
        last = now

    settings = UpsampleSettings(method=method, factor=2, expression=expression)
    genes = list(slide.genes[:n_genes])
    upsample(slide, genes=genes, settings=settings, progress=lap, executor=ThreadExecutor(1))
    return seconds


def ratios_of(slide: Slide, n_genes: int, expression: str = "auto") -> dict[str, float]:
    """Return each stage's time relative to interpolating all genes, timed right before and after the run."""

    def unit() -> float:
        return min(stages(slide, "pycnophylactic", GENES)["split"] for _ in range(ROUNDS))

    before = unit()
    seconds = stages(slide, "srast", n_genes, expression)
    both = (before + unit()) / 2
    return {stage: took / both for stage, took in seconds.items()}


def split_ratio(slide: Slide) -> float:
    """Return the time of splitting few genes with cached features, relative to interpolating all genes."""
    return float(np.median([ratios_of(slide, FEW_GENES, "none")["split"] for _ in range(ROUNDS)]))


def all_ratios(slide: Slide) -> dict[str, float]:
    """Return each stage's time relative to interpolating all genes of the slide."""
    upsample(simulate_slide(60, 8))  # imports
    rounds = []
    for _ in range(ROUNDS):
        fitted_slide._cache.clear()
        rounds.append(ratios_of(slide, GENES))
    ratios = {stage: float(np.median([one[stage] for one in rounds])) for stage in ("preparation", "split")}
    return ratios | {"split of few genes": split_ratio(slide)}


def slower_stages(measured: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, str]:
    """Return the stages that became slower than allowed."""
    return {
        stage: f"{ratio:.2f} instead of {reference[stage]:.2f}"
        for stage, ratio in measured.items()
        if ratio > GROWTH * reference[stage]
    }


@pytest.fixture(scope="module")
def reference() -> dict[str, float]:
    if not REFERENCE.exists():
        pytest.skip("there is no reference for this version; measure one on an idle computer, see the module docstring")
    saved = json.loads(REFERENCE.read_text())
    if saved["made_with"] != MADE_WITH:
        pytest.skip(f"the reference was measured with {saved['made_with']}, this run has {MADE_WITH}")
    ratios: dict[str, float] = saved["ratios"]
    return ratios


def test_no_stage_became_slower(slide: Slide, reference: dict[str, float]) -> None:
    assert not slower_stages(all_ratios(slide), reference)


def test_doubled_stage_is_detected(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with a measurement on this computer; the reference may come from one that is a quarter slower.

    The prediction takes a quarter to a half of the stage, so four more of them at least double it.
    """
    here = {"split of few genes": split_ratio(slide)}
    plain = srast.PerGenePredictor.bind

    def repeated(*arguments: Any) -> Callable[[slice], Block]:
        for _ in range(4):
            plain(*arguments)(slice(None))
        return plain(*arguments)

    monkeypatch.setattr(srast.PerGenePredictor, "bind", repeated)
    measured = {"split of few genes": split_ratio(slide)}
    assert slower_stages(measured, here), f"not detected: {measured} against {here}"


if __name__ == "__main__":
    with few_epochs():
        ratios = {stage: round(ratio, 3) for stage, ratio in all_ratios(simulate_slide(SPOTS, GENES, seed=5)).items()}
    REFERENCE.write_text(json.dumps({"made_with": MADE_WITH, "ratios": ratios}, indent=2) + "\n")
