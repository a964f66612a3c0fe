"""Prepared slides: what is fitted before the first run, its files, and the bytes of the results."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from helpers.results import assert_same_result

import napari_srast as srast
from napari_srast.core.progress import RunMonitor
from napari_srast.core.region import Region
from napari_srast.core.slide import Slide, SlideImage
from napari_srast.errors import Cancelled
from napari_srast.inference import expression_field, fit_cache, fitted_slide, slide_histology, slide_intensity
from napari_srast.inference.executors.local import ThreadExecutor
from napari_srast.inference.fit_cache import FitCache, FitMemory
from napari_srast.inference.preparation import prepare_slide
from napari_srast.models.intensity import FittedIntensity
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.embedding import SlideEmbedding
from napari_srast.models.sasa.fitting import fit_sasa

CORNER = Region(shapely.box(-1000, -1000, 560, 560))


def forget() -> None:
    """Forget what is in memory, as a new process does."""
    fitted_slide._cache.clear()
    slide_intensity._cache.clear()
    slide_intensity._loadings.clear()
    slide_histology._memory.clear()


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def slide(make_slide: Callable[..., Slide]) -> Slide:
    """A slide whose image predicts its counts."""
    plain = make_slide(10, 11, 12, depth=400.0)
    side = 8
    totals = np.asarray(plain.counts.sum(axis=1)).reshape(10, 11)
    density = np.kron(totals / totals.max(), np.ones((side, side)))
    light = 255 * np.exp(-density[None] * np.array([1.2, 1.6, 0.5])[:, None, None])
    pitch = float(np.ptp(plain.centers[:, 0]) / 10)
    first = plain.centers.min(axis=0) - pitch / 2
    to_intrinsic = np.array([[pitch / side, 0, first[0]], [0, pitch / side, first[1]], [0, 0, 1]])
    image = SlideImage(
        name="patient_7", levels=(light.astype(np.uint8),), to_intrinsic=(to_intrinsic,), channels=("r", "g", "b")
    )
    return make_slide(10, 11, 12, depth=400.0, image=image)


def quick_fit(*arguments: Any, config: SasaConfig, **options: Any) -> SlideEmbedding:
    """Fit SASA in a few steps."""
    return fit_sasa(*arguments, config=dataclasses.replace(config, epochs=4), **options)


def prepare(slide: Slide, cache: FitCache | None = None, **options: Any) -> None:
    prepare_slide(slide, srast.UpsampleSettings(seed=options.pop("seed", 0)), fit=quick_fit, cache=cache, **options)


def run(slide: Slide, cache: FitCache | None = None, **options: Any) -> srast.UpsampleResult:
    executor = ThreadExecutor(fit=quick_fit, cache=cache)
    return srast.upsample(slide, CORNER, list(slide.genes[:3]), executor=executor, name="run", **options)


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this is stored, and must not be computed again")


def forbid_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted_slide, "_fit", never)
    monkeypatch.setattr(slide_histology, "_fit", never)
    monkeypatch.setattr(slide_intensity, "fit_intensity", never)
    monkeypatch.setattr(FittedIntensity, "program_loadings", never)


@pytest.mark.parametrize("mode", ["mean", "sample"])
def test_results_have_the_same_bytes_with_and_without_the_cache(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    options: dict[str, Any] = {"factor": 3, "mode": mode, "seed": 1, "draws": None if mode == "mean" else 2}
    expected = run(slide, **options)
    image = expected.provenance["calibration"]["image"]
    assert image["used"]
    assert image["weights"] != [0.0, 0.0]
    forget()
    cache = FitCache(tmp_path / "cache")
    prepare(slide, cache, seed=1)
    forget()
    forbid_fits(monkeypatch)
    got = run(slide, cache, **options)
    assert_same_result(got, expected)
    without_times = [{k: v for k, v in one.provenance.items() if k != "seconds"} for one in (got, expected)]
    assert without_times[0] == without_times[1]


def test_run_after_the_preparation_fits_nothing(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(slide)
    forbid_fits(monkeypatch)
    run(slide, factor=2)


@pytest.mark.parametrize("is_reopened", [False, True])
def test_expression_has_the_same_bytes_with_intensities_of_the_preparation(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_reopened: bool
) -> None:
    """The spots of the sample, and those around the region, are computed apart."""
    monkeypatch.setattr(expression_field, "_MAX_SHAPE_SPOTS", 40)
    monkeypatch.setattr(expression_field, "_MAX_LEVEL_SPOTS", 30)
    expected = run(slide, factor=3)
    again = run(slide, factor=3)
    forget()
    cache = FitCache(tmp_path / "cache")
    prepare(slide, cache)
    if is_reopened:
        forget()
        forbid_fits(monkeypatch)
    monkeypatch.setattr(expression_field, "_fit_sample", never)
    prepared = run(slide, cache, factor=3)
    for result in (again, prepared):
        assert_same_result(result, expected)


def test_intensities_of_other_spot_areas_are_stored_apart(slide: Slide, tmp_path: Path) -> None:
    """The intensity of the slide is the same: spots that measure nine tenths of their cell count as points."""
    cache = FitCache(tmp_path / "cache")
    assert slide.spot_diameter is not None
    wide, wider = (dataclasses.replace(slide, spot_diameter=factor * slide.spot_diameter) for factor in (0.96, 0.985))
    prepare(wide, cache)
    n_files = len(list(cache.folder.iterdir()))
    prepare(wider, cache)
    assert len(list(cache.folder.iterdir())) > n_files


def test_other_counts_images_seeds_and_code_are_fitted_again(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FitCache(tmp_path / "cache")

    def n_new_files(changed: Slide, **options: Any) -> int:
        before = len(list(cache.folder.iterdir())) if cache.folder.exists() else 0
        forget()
        prepare(changed, cache, **options)
        return len(list(cache.folder.iterdir())) - before

    assert n_new_files(slide) == 8  # with intensity and image in two samples of points, and loadings of all genes
    assert n_new_files(slide) == 0
    assert slide.image is not None
    pixels = slide.image.levels[0].copy()
    pixels[0, 40, 40] ^= 1
    assert n_new_files(dataclasses.replace(slide, image=dataclasses.replace(slide.image, levels=(pixels,)))) == 3
    assert n_new_files(dataclasses.replace(slide, image=slide.image.moved_by(np.array([1.0, 0.0])))) == 3
    assert n_new_files(slide, seed=5) == 2  # the intensity has no seed
    assert cache.use().n_slides == 1
    counts = slide.counts.copy()
    counts.data[0] += 1
    assert n_new_files(dataclasses.replace(slide, counts=counts, image=None)) == 4
    assert cache.use().n_slides == 2
    monkeypatch.setattr(fit_cache, "code_fingerprint", lambda: "other code")
    assert n_new_files(dataclasses.replace(slide, image=None)) == 4


def test_files_hold_no_names(slide: Slide, tmp_path: Path) -> None:
    cache = FitCache(tmp_path / "cache")
    prepare(slide, cache)
    content = b"".join(path.name.encode() + path.read_bytes() for path in cache.folder.iterdir())
    for name in ("patient_7", *slide.genes, *slide.spot_ids, "global"):
        assert str(name).encode() not in content, name


@pytest.mark.contract(
    section="Outputs and system errors",
    case="a file of the cache of prepared slides is damaged",
    response="removed, and computed again",
)
def test_damaged_files_are_removed_and_written_again(tmp_path: Path) -> None:
    cache = FitCache(tmp_path / "cache")
    memory: FitMemory[Any] = FitMemory((), max_fits=1)
    fits = []

    def get() -> Any:
        memory.clear()
        return memory.get(
            "key",
            lambda: fits.append(1) or (np.arange(50.0), "text"),
            lambda value: value,
            file_key=lambda: ("a" * 32, "fit"),
            cache=cache,
        )

    get()
    (path,) = cache.folder.iterdir()
    content = path.read_bytes()
    middle = len(content) // 2
    pickled = io.BytesIO()
    np.savez(pickled, description=np.array([{"a": 1}], dtype=object))
    bomb = io.BytesIO()
    np.savez_compressed(bomb, description=np.zeros(1_000_000))
    damaged = {
        "cut": content[:middle],
        "changed": content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :],
        "empty": b"",
        "another format": content[::-1],
        "code": pickled.getvalue(),
        "larger than its file": bomb.getvalue(),
    }
    for number, (name, replacement) in enumerate(damaged.items()):
        path.write_bytes(replacement)
        assert get()[1] == "text", name
        assert len(fits) == number + 2, name
        assert path.read_bytes() == content, name


def test_full_cache_removes_what_was_not_used_for_longest(tmp_path: Path) -> None:
    cache = FitCache(tmp_path / "cache", max_bytes=10_000)
    names = [cache.file_name(f"{number}" * 32, "fit") for number in range(3)]
    value = (np.zeros(400), "text", 1.5)
    for number, name in enumerate(names[:2]):
        cache.save(name, value)
        os.utime(cache.folder / name, (number, number))
    assert cache.use().n_slides == 2
    assert cache.load(names[0], ()) is not None  # used now
    cache.save(names[2], value)
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted([names[0], names[2]])
    assert cache.use().n_bytes <= 10_000


def test_clearing_removes_only_files_of_the_cache(tmp_path: Path) -> None:
    cache = FitCache(tmp_path / "cache")
    cache.clear()  # there is none yet
    cache.save(cache.file_name("a" * 32, "fit"), (np.zeros(3),))
    (cache.folder / ".unfinished.partial").write_bytes(b"of a killed process")
    (cache.folder / "notes.txt").write_text("of the user")
    cache.clear()
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]
    assert cache.use().n_bytes == 0


@pytest.mark.contract(
    section="Outputs and system errors",
    case="the cache of prepared slides cannot be written",
    response="nothing is stored, and the run continues",
)
def test_cache_that_cannot_be_written_is_left_out(
    slide: Slide, tmp_path: Path, filling_disk: Callable[[], Any]
) -> None:
    (tmp_path / "file").write_text("")
    without_image = dataclasses.replace(slide, image=None)
    prepare(without_image, FitCache(tmp_path / "file" / "cache"))
    forget()
    cache = FitCache(tmp_path / "cache")
    with filling_disk():
        prepare(without_image, cache)
    assert list(cache.folder.iterdir()) == []


def test_preparation_is_canceled_at_every_check(slide: Slide) -> None:
    checks: list[int] = []
    prepare(slide, monitor=RunMonitor(should_stop=lambda: checks.append(1)))  # type: ignore[func-returns-value, arg-type, return-value]
    for at in np.linspace(1, len(checks) - 1, 4).astype(int):
        forget()
        left = iter(range(int(at)))
        with pytest.raises(Cancelled):
            prepare(slide, monitor=RunMonitor(should_stop=lambda left=left: next(left, None) is None))


def test_thread_waits_for_a_fit_in_progress_and_takes_over_a_canceled_one() -> None:
    memory: FitMemory[float] = FitMemory((), max_fits=1)
    begun, release, fits = threading.Event(), threading.Event(), []

    def canceled() -> float:
        begun.set()
        release.wait(10)
        raise Cancelled

    def quick() -> float:
        fits.append(1)
        return 2.0

    def get(fit: Callable[[], float]) -> float:
        return memory.get("key", fit, lambda value: value, file_key=lambda: ("", ""))

    def get_canceled() -> None:
        with pytest.raises(Cancelled):
            get(canceled)

    first = threading.Thread(target=get_canceled)
    first.start()
    assert begun.wait(10)
    results: list[float] = []
    others = [threading.Thread(target=lambda: results.append(get(quick))) for _ in range(2)]
    for thread in others:
        thread.start()
    assert fits == []
    release.set()
    for thread in (first, *others):
        thread.join(10)
    assert results == [2.0, 2.0]
    assert fits == [1]
