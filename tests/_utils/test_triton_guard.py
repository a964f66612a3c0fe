"""Tests of the workaround for Triton next to Mesa's OpenGL drivers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from napari_srast._utils import triton_guard
from napari_srast.models.sasa import message_passing

PLAIN = "7f00-7f10 r-xp 00000000 08:01 11 /usr/lib/libGL.so.1\n"
MESA = PLAIN + "7f20-7f30 r-xp 00000000 08:01 12 /usr/lib/x86_64-linux-gnu/libLLVM-15.so.1\n"


@pytest.fixture(autouse=True)
def without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", ModuleType("triton"))  # so that the end of the test restores it
    monkeypatch.delitem(sys.modules, "triton")


def _maps(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    (folder / "maps").write_text(text)
    monkeypatch.setattr(triton_guard, "_MAPS", folder / "maps")


def test_triton_is_blocked_next_to_mesa(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _maps(monkeypatch, tmp_path, MESA)
    assert triton_guard.block_triton_import()
    assert importlib.util.find_spec("triton") is None
    with pytest.raises(ImportError):
        importlib.import_module("triton")
    assert not triton_guard.block_triton_import()


def test_triton_is_available_without_mesa(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _maps(monkeypatch, tmp_path, PLAIN)
    assert not triton_guard.block_triton_import()
    monkeypatch.setattr(triton_guard, "_MAPS", tmp_path / "none")
    assert not triton_guard.block_triton_import()
    assert "triton" not in sys.modules
    _maps(monkeypatch, tmp_path, MESA)
    loaded = ModuleType("triton")
    monkeypatch.setitem(sys.modules, "triton", loaded)
    assert not triton_guard.block_triton_import()
    assert sys.modules["triton"] is loaded


def test_guard_runs_before_pytorch_geometric_loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _maps(monkeypatch, tmp_path, MESA)
    importlib.reload(message_passing)
    assert importlib.util.find_spec("triton") is None


@pytest.mark.gui
def test_guard_runs_in_every_background_task(qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from napari_srast.gui.runtime import background

    _maps(monkeypatch, tmp_path, MESA)
    ended: list[Any] = []
    background.start(
        background.single_step(lambda: importlib.util.find_spec("triton")),
        on_step=ended.append,
        on_done=ended.append,
        on_error=ended.append,
    )
    qtbot.waitUntil(lambda: bool(ended), timeout=10_000)
    assert ended == [None]
