"""Modules of a run are imported after a slide is shown, and garbage is collected again afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from napari_srast.gui.runtime import run_modules

pytestmark = pytest.mark.gui


def test_opening_a_slide_leaves_torch_to_the_import_that_follows(store: Path) -> None:
    code = textwrap.dedent(
        f"""
        import sys
        from napari_srast.gui.state import slide_loading
        from napari_srast.gui.runtime.run_modules import import_run_modules, start_import
        slide_loading.may_have_gpu = lambda: False  # a computer with a GPU asks PyTorch for its name
        assert slide_loading.load({str(store)!r}).devices == ("auto", "cpu")
        assert "torch" not in sys.modules
        start_import()
        import_run_modules()  # waits for the thread, as a run does
        assert "napari_srast.inference.methods.srast" in sys.modules
        import torch
        assert float(torch.ones(2).sum()) == 2
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_failed_import_lets_garbage_be_collected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fail() -> None:
        seen.append(gc.isenabled())
        raise ImportError("torch is broken")

    monkeypatch.setattr(run_modules, "_MODULES", ("napari_srast.no_such_module",))
    monkeypatch.setattr(run_modules, "_link_libraries", fail)
    with pytest.raises(ImportError, match="torch is broken"):
        run_modules.import_run_modules()
    assert seen == [False]
    assert gc.isenabled()
