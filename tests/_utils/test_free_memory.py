"""Test how much memory a process can have."""

from __future__ import annotations

from pathlib import Path

import psutil

from napari_srast._utils import free_memory
from napari_srast._utils.free_memory import available_memory, release_free_memory


def test_container_limit_counts_and_droppable_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 200\n")
    assert free_memory._container_memory(tmp_path) == [500]
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory._container_memory(tmp_path) == []


def test_available_memory_is_at_most_that_of_the_computer() -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_memory_can_be_released_on_every_system(monkeypatch) -> None:
    release_free_memory()
    monkeypatch.setattr(free_memory, "_malloc_trim", lambda: None)
    release_free_memory()
