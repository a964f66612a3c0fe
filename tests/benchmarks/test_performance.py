"""No stage may grow: its processor time, in units of interpolation in the same run, against a reference.

Make the reference anew where a stage is meant to cost more, best on an idle computer:
``python tests/evaluation/test_performance.py``.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from napari_srast.api import upsample
from napari_srast.benchmarks.scaling import made_slide
from napari_srast.calibration import experts
from napari_srast.checkpoints.storage import load_checkpoint
from napari_srast.core.progress import Progress
from napari_srast.core.slide import Slide
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.inference.methods import srast

REFERENCE = Path(__file__).with_name("reference_ratios.json")
GROWTH = 1.5
ROUNDS = 5  # the middle one counts: what else a computer does changes from second to second
EPOCHS = 15  # of SASA: a tenth, and in proportion
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
    return made_slide(SPOTS, GENES, seed=5)


@contextmanager
def few_epochs() -> Iterator[None]:
    """Let the model that ships be aligned in a few epochs."""
    whole = load_checkpoint("default")
    short = replace(whole, sasa=replace(whole.sasa, epochs=EPOCHS))
    flow_pairs = mock.patch.object(
        srast, "FLOW_PAIR_BUDGET", 10_000
    )  # so that most genes take the maps that they share
    with mock.patch.object(srast, "load_checkpoint", return_value=short), flow_pairs:
        yield


def stages(slide: Slide, method: str, n_genes: int) -> dict[str, float]:
    """Return the processor's seconds of each stage of a run."""
    seconds: dict[str, float] = {}
    last = time.process_time()

    def lap(step: Progress) -> None:
        nonlocal last
        now = time.process_time()
        # A slide is aligned and calibrated side by side.
        stage = "split" if step.stage == "split" else "preparation"
        seconds[stage] = seconds.get(stage, 0.0) + now - last
        last = now

    upsample(slide, genes=list(slide.genes[:n_genes]), method=method, progress=lap, workers=ThreadExecutor(1))
    return seconds


def ratios_of(slide: Slide, n_genes: int) -> dict[str, float]:
    """Return what each stage of a run costs in units of interpolating all genes, timed right before and after it."""

    def unit() -> float:
        return min(stages(slide, "pycnophylactic", GENES)["split"] for _ in range(ROUNDS))

    before = unit()
    seconds = stages(slide, "srast", n_genes)
    both = (before + unit()) / 2
    return {stage: took / both for stage, took in seconds.items()}


def split_ratio(slide: Slide) -> float:
    """Return what splitting few genes of a slide that was aligned before costs, in units of interpolating all."""
    return float(np.median([ratios_of(slide, FEW_GENES)["split"] for _ in range(ROUNDS)]))


def all_ratios(slide: Slide) -> dict[str, float]:
    """Return what each stage costs in units of interpolating all genes of the slide."""
    upsample(made_slide(60, 8))  # imports
    rounds = []
    for _ in range(ROUNDS):
        experts._cache.clear()
        rounds.append(ratios_of(slide, GENES))
    ratios = {stage: float(np.median([one[stage] for one in rounds])) for stage in ("preparation", "split")}
    return ratios | {"split of few genes": split_ratio(slide)}


def grown(measured: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, str]:
    """Return the stages that grew beyond what is allowed."""
    return {
        stage: f"{ratio:.2f} instead of {reference[stage]:.2f}"
        for stage, ratio in measured.items()
        if ratio > GROWTH * reference[stage]
    }


@pytest.fixture(scope="module")
def reference() -> dict[str, float]:
    if not REFERENCE.exists():
        pytest.skip("there is no reference for this version; make it on an idle computer as told above")
    kept = json.loads(REFERENCE.read_text())
    if kept["made_with"] != MADE_WITH:
        pytest.skip(f"the reference is of {kept['made_with']}, and {MADE_WITH} take their own times")
    ratios: dict[str, float] = kept["ratios"]
    return ratios


def test_no_stage_grew(slide: Slide, reference: dict[str, float]) -> None:
    assert not grown(all_ratios(slide), reference)


def test_a_stage_that_takes_twice_as_long_is_noticed(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against what it takes on this very computer: the reference may be of one where it takes a quarter longer."""
    here = {"split of few genes": split_ratio(slide)}
    plain = experts.Experts.predict

    def twice(*arguments, **options):  # type: ignore[no-untyped-def]
        plain(*arguments, **options)
        return plain(*arguments, **options)

    monkeypatch.setattr(experts.Experts, "predict", twice)
    measured = {"split of few genes": split_ratio(slide)}
    assert grown(measured, here), f"not noticed: {measured} against {here}"


if __name__ == "__main__":
    with few_epochs():
        ratios = {stage: round(ratio, 3) for stage, ratio in all_ratios(made_slide(SPOTS, GENES, seed=5)).items()}
    REFERENCE.write_text(json.dumps({"made_with": MADE_WITH, "ratios": ratios}, indent=2) + "\n")
