"""Memory and disk cache of fits: what is computed once, what is removed, and what threads wait for."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from napari_srast.core.progress import RunMonitor
from napari_srast.errors import Cancelled
from napari_srast.inference.fit_cache import FitCache, FitMemory, digest_of

SLIDES = ("a" * 32, "b" * 32, "c" * 32)


@dataclass(frozen=True, eq=False)
class Fit:
    """What the tests store."""

    values: np.ndarray


def fit_of(value: float) -> Fit:
    return Fit(np.full(1000, value))


def save_all(cache: FitCache) -> list[str]:
    """Save a fit of each slide; return the names of the files, the one that was used longest ago first."""
    names = [cache.file_name(slide) for slide in SLIDES]
    for age, name in enumerate(reversed(names)):
        cache.save(name, fit_of(age))
        if (cache.folder / name).exists():
            os.utime(cache.folder / name, (1e9 - 100 * age,) * 2)
    return names


def test_digest_depends_on_values_type_and_shape() -> None:
    values = np.arange(6)
    digests = [digest_of(one) for one in (values, values.astype(float), values.reshape(2, 3), values[::-1], "other")]
    assert len(set(digests)) == 5
    assert digest_of(values[::2]) == digest_of(np.array([0, 2, 4]))


def test_file_is_found_again_with_its_content(tmp_path: Path) -> None:
    cache = FitCache(tmp_path)
    cache.save(cache.file_name(SLIDES[0]), fit_of(3.0))
    assert cache.load(cache.file_name(SLIDES[0]), (Fit,)).values.tolist() == [3.0] * 1000
    assert cache.load(cache.file_name(SLIDES[1]), (Fit,)) is None


def test_files_that_were_not_used_for_longest_are_removed_first(tmp_path: Path) -> None:
    size = FitCache(tmp_path / "one")
    size.save(size.file_name(SLIDES[0]), fit_of(0))
    cache = FitCache(tmp_path / "three")
    names = save_all(cache)
    cache.max_bytes = 2 * size.use().n_bytes
    cache.load(names[0], (Fit,))  # now it was used last
    cache.save(names[2], fit_of(9))
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted([names[0], names[2]])
    assert cache.use().n_slides == 2


def test_clearing_removes_the_files_of_the_cache_only(tmp_path: Path) -> None:
    cache = FitCache(tmp_path / "cache")
    save_all(cache)
    (cache.folder / "notes.txt").write_text("mine")
    (cache.folder / ".x.npz.1234.partial").write_text("of a killed process")
    cache.clear()
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]


def test_damaged_file_is_removed_and_computed_again(tmp_path: Path) -> None:
    cache, memory = FitCache(tmp_path), FitMemory[Fit]((Fit,), 2)
    name = cache.file_name(SLIDES[0])
    (tmp_path / name).write_bytes(b"no archive")
    found = memory.get("k", lambda: fit_of(1), lambda fit: fit, file_key=lambda: (SLIDES[0],), cache=cache)
    assert found.values[0] == 1
    assert cache.load(name, (Fit,)).values[0] == 1


def test_last_fits_stay_in_memory() -> None:
    memory, fitted = FitMemory[Fit]((Fit,), 2), []

    def get(key: str) -> None:
        memory.get(key, lambda: fitted.append(key) or fit_of(0), lambda fit: fit, file_key=lambda: ())

    for key in "abacab":  # c replaces b, the one that was used longest ago; then b replaces c
        get(key)
    assert fitted == ["a", "b", "c", "b"]


def test_threads_wait_for_a_fit_in_progress_and_waiting_can_be_canceled() -> None:
    memory, begun, release = FitMemory[Fit]((Fit,), 2), threading.Event(), threading.Event()
    fitted: list[int] = []

    def slow() -> Fit:
        fitted.append(1)
        begun.set()
        assert release.wait(20)
        return fit_of(5)

    def get(monitor: RunMonitor) -> Fit:
        return memory.get("k", slow, lambda fit: fit, file_key=lambda: (), monitor=monitor)

    found: list[Fit] = []
    threads = [threading.Thread(target=lambda: found.append(get(RunMonitor()))) for _ in range(2)]
    threads[0].start()
    assert begun.wait(20)
    threads[1].start()
    with pytest.raises(Cancelled):
        get(RunMonitor(should_stop=lambda: True))
    release.set()
    for thread in threads:
        thread.join(20)
    assert fitted == [1]
    assert found[0] is found[1]


def test_failed_fit_is_tried_again() -> None:
    memory = FitMemory[Fit]((Fit,), 2)

    def fail() -> Fit:
        raise ValueError("no fit")

    with pytest.raises(ValueError, match="no fit"):
        memory.get("k", fail, lambda fit: fit, file_key=lambda: ())
    assert memory.get("k", lambda: fit_of(2), lambda fit: fit, file_key=lambda: ()).values[0] == 2
