"""Record the window as docs/images/recording.gif: open the built-in slide, draw, choose genes, run, and compare.

Run it in the environment that bootstrap.py creates: ``python docs/make_recording.py [OUTPUT.gif]``. Without a display
it starts a virtual one with ``xvfb-run``. The times are not those of the run: a frame is shown as long as it takes to
read it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

OUTPUT = Path(__file__).resolve().parent / "images" / "recording.gif"
GENES = ("MUC2", "OLFM4", "COL1A1", "KRT20")
SIZE = (880, 550)
MAX_BYTES = 3_000_000
SHORT, LONG = 350, 1800  # milliseconds


class Recording:
    """Frames of a window, and how long each is shown.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.frames: list[Image.Image] = []
        self.times: list[int] = []

    def add(self, milliseconds: int, settle: float = 0.4) -> None:
        """Let the window draw for some seconds, and add a frame."""
        from napari_srast.gui.demo import wait_until

        end = time.monotonic() + settle
        wait_until(lambda: time.monotonic() > end, settle + 5)
        picture = self.viewer.window.screenshot(canvas_only=False, flash=False)
        self.frames.append(Image.fromarray(picture).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS))
        self.times.append(milliseconds)

    def save(self, path: Path) -> None:
        """Write the frames, each with its own 256 colors."""
        frames = [frame.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for frame in self.frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=self.times, loop=0, optimize=True)
        if path.stat().st_size > MAX_BYTES:
            raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}.")


def main() -> int:
    """Write the recording; return 0."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24", sys.executable, __file__, *sys.argv[1:]]
        return subprocess.run(command, check=False).returncode
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # the user's recent slides stay out of the pictures
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        record(Path(sys.argv[1]) if sys.argv[1:] else OUTPUT)
    return 0


def record(path: Path) -> None:
    """Operate the window and save the frames."""
    from napari_srast.gui.controllers.task_runner import AppState
    from napari_srast.gui.demo import wait_until
    from napari_srast.gui.layers.factory import world_extent
    from napari_srast.gui.runtime.launch import open_window

    viewer, widget = open_window()
    widget.tour.postpone()
    viewer.window.resize(1600, 1000)
    controller, recording = widget.controller, Recording(viewer)
    problems: list[str] = []
    controller.messages.error_message.connect(problems.append)

    def is_ready() -> bool:
        return controller.tasks.state is AppState.READY

    def ready() -> None:
        if not wait_until(lambda: is_ready() or bool(problems), 1800) or problems:
            raise RuntimeError(f"A step failed: {problems or 'timeout'}")
        overlay = controller.results.overlay
        wait_until(lambda: overlay is None or len(overlay.shown) == len(overlay.genes), 120)

    recording.add(LONG, settle=2.0)
    widget.slide_panel.sample.click()
    ready()
    recording.add(LONG, settle=2.0)
    low, high = world_extent(controller.slides.slide)
    angles = np.pi / 8 + np.arange(8) * np.pi / 4
    controller.regions.add((low + high) / 2 + 0.36 * (high - low) * np.column_stack([np.cos(angles), np.sin(angles)]))
    recording.add(LONG)
    for number in range(1, len(GENES) + 1):
        widget.gene_panel.model.check(list(GENES[:number]), only=True)
        recording.add(SHORT)
    widget.run_bar.run.click()
    for part in range(0, 1000, 120):  # the bar has 1,000 steps
        wait_until(
            lambda at=part: widget.run_bar.progress.value() > at or controller.tasks.state is AppState.READY, 600
        )
        if controller.tasks.state is AppState.READY or problems:
            break
        recording.add(SHORT, settle=0.1)
    ready()
    widget.result_panel.model.check([GENES[0]], only=True)
    ready()
    recording.add(LONG, settle=1.0)
    widget.result_panel.model.check(list(GENES), only=True)
    ready()
    recording.add(LONG, settle=1.0)
    for view in ("before", "after", "side_by_side", "after"):
        widget.result_panel.views[view].click()
        if view == "side_by_side":
            wait_until(lambda: "SRast side-by-side spots" in viewer.layers, 120)
        recording.add(LONG, settle=1.0)
    viewer.close()
    recording.save(path)


if __name__ == "__main__":
    sys.exit(main())
