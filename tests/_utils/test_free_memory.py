"""Test how much memory a process can have."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from napari_srast._utils import free_memory
from napari_srast._utils.free_memory import (
    available_memory,
    obtainable_memory,
    release_free_memory,
    separate_large_blocks,
)


def test_container_limit_counts_and_droppable_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 200\nactive_file 150\nslab_reclaimable 50\n")
    assert free_memory._container_memory(tmp_path) == [700]
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory._container_memory(tmp_path) == []


def test_container_of_an_older_system_is_read(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in (
        ("limit_in_bytes", "1000\n"),
        ("usage_in_bytes", "700\n"),
        ("stat", "total_inactive_file 100\ntotal_active_file 50\ninactive_file 1\n"),
    ):
        (tmp_path / "memory" / f"memory.{name}").write_text(text)
    assert free_memory._container_memory(tmp_path) == [450]


@pytest.mark.parametrize(("is_linux", "expected"), [(True, 600), (False, 1000)])
def test_swap_space_can_be_obtained(monkeypatch: pytest.MonkeyPatch, is_linux: bool, expected: int) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=200, total=1000))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(free=400))
    monkeypatch.setattr(psutil, "LINUX", is_linux)
    monkeypatch.setattr(free_memory, "_container_memory", list)
    assert obtainable_memory() == expected
    monkeypatch.setattr(free_memory, "_container_memory", lambda: [300])
    assert obtainable_memory() == 300


def test_available_memory_is_at_most_that_of_the_computer() -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_memory_can_be_released_on_every_system(monkeypatch) -> None:
    release_free_memory()
    separate_large_blocks()
    monkeypatch.setattr(free_memory, "_c_library", lambda: None)
    release_free_memory()
    separate_large_blocks.__wrapped__()


def test_large_blocks_are_separated_unless_the_environment_sets_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *options: calls.append(options))
    monkeypatch.setattr(free_memory, "_c_library", lambda: library)
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    separate_large_blocks.__wrapped__()
    assert calls == [(-3, 4 << 20)]
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
    separate_large_blocks.__wrapped__()
    assert len(calls) == 1
