"""Fitting a slide: what else runs on the core that is free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from napari_srast.checkpoints.storage import load_checkpoint
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.inference import fitted_slide
from napari_srast.inference.fitted_slide import SlideInput, fit_slide
from napari_srast.models.sasa.fitting import fit_sasa


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    fitted_slide._cache.clear()
    yield
    fitted_slide._cache.clear()


@pytest.fixture
def slide_input(make_slide: Callable[..., Slide]) -> SlideInput:
    slide = make_slide(4, 5, 6)  # too small to be coarsened, so there is no calibration
    checkpoint = load_checkpoint("default")
    quick = replace(checkpoint, sasa=replace(checkpoint.sasa, epochs=2))
    return SlideInput(
        counts=slide.counts, centers=slide.centers, lattice=detect_lattice(slide.centers), checkpoint=quick
    )


def test_other_fit_runs_while_sasa_is_fitted(slide_input: SlideInput) -> None:
    called = threading.Event()

    def fit(*args, **options):
        assert called.wait(20)
        return fit_sasa(*args, **options)

    fit_slide(slide_input, fit=fit, afterwards=called.set)


def test_other_fit_is_not_needed_for_a_cached_slide(slide_input: SlideInput) -> None:
    calls: list[int] = []
    for _ in range(2):
        fit_slide(slide_input, afterwards=lambda: calls.append(1))
    assert calls == [1]


def test_error_of_the_other_fit_is_raised(slide_input: SlideInput) -> None:
    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        fit_slide(slide_input, afterwards=fail)


def test_other_fit_does_not_start_after_a_cancel(slide_input: SlideInput, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, calls = threading.Event(), []

    def calibrate(*_):
        assert failed.wait(20)
        return fitted_slide._Calibration(weights=load_checkpoint("default").priors.mean_weights)

    def fit(*_args, **_options):
        threading.Timer(0.2, failed.set).start()  # after the error
        raise Cancelled

    monkeypatch.setattr(fitted_slide, "_calibrate", calibrate)

    with pytest.raises(Cancelled):
        fit_slide(slide_input, fit=fit, afterwards=lambda: calls.append(1))
    assert calls == []


def test_other_fit_does_not_start_if_the_calibration_fails(
    slide_input: SlideInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(fitted_slide, "_calibrate", fail)
    with pytest.raises(MemoryError):
        fit_slide(slide_input, afterwards=lambda: calls.append(1))
    assert calls == []
