"""Take screenshots of the window with real slides, to be looked at: sizes of the screen, themes, and factors.

Run it as ``python docs/make_screenshots.py DATA OUTPUT``, where DATA holds tables (``.h5ad``, each with its image
``NAME_he.jpg``) or stores (``.zarr``), also in subfolders. Without a display it starts a virtual one with ``xvfb-run``.
It converts tables in a temporary folder and writes nothing but the pictures; they are not part of the repository.
``sheet_*.png`` show several pictures at once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

SLIDES = (
    "st_human_breast_her2_c2",
    "st_human_breast_her2_c4",
    "visium_mouse_muscle_vis5a",
    "st_mouse_olfactorybulb_mob1",
)
GENES = ("ERBB2", "KRT19", "Acta1", "Myh4", "Penk", "Fabp7")  # shown where a slide has them, else its first ones
FACTORS = (2.0, 4.0, 8.0)
SIZES = ("1600x1000", "1280x800")
THEMES = ("dark", "light")
PATIENCE = 1800.0  # seconds for one step


def main() -> int:
    """Parse the arguments, take the screenshots, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with tables and images, or with stores")
    parser.add_argument("output", type=Path, help="folder of the pictures; it is created")
    parser.add_argument("--slides", nargs="+", default=SLIDES, help="names of the slides, without the ending")
    parser.add_argument("--genes", nargs="+", default=GENES, help="genes to upsample where a slide has them")
    parser.add_argument("--factors", nargs="+", type=float, default=FACTORS)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="sizes of the screen, such as 1280x800")
    parser.add_argument("--themes", nargs="+", default=THEMES)
    parser.add_argument("--method", default="srast", help="method of the runs")
    options = parser.parse_args()
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        largest = "x".join(str(max(int(size.split("x")[axis]) for size in options.sizes)) for axis in (0, 1))
        command = ["xvfb-run", "-a", "-s", f"-screen 0 {largest}x24", sys.executable, __file__, *sys.argv[1:]]
        return subprocess.run(command, check=False).returncode
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # the user's recent slides stay out of the screenshots
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        stores = [find_store(options.data, name, Path(folder)) for name in options.slides]
        Screenshots(options).take(stores)
    return 0


def find_store(data: Path, name: str, folder: Path) -> Path:
    """Return the store of a slide; a table is converted."""
    from napari_srast.io.convert.importer import import_slide

    store = next(data.rglob(f"{name}.zarr"), None)
    if store is not None:
        return store
    table = next(data.rglob(f"{name}.h5ad"), None)
    if table is None:
        raise SystemExit(f"There is no slide '{name}' in {data}; name others with --slides.")
    image = table.with_name(f"{name}_he.jpg")
    return import_slide(table, folder / f"{name}.zarr", image=image if image.exists() else None)


class Screenshots:
    """Operates the window.

    Parameters
    ----------
    options
        The arguments of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        from napari_srast.gui.runtime.launch import open_window

        self.options = options
        self.viewer, self.widget = open_window()
        self.widget.tour.postpone()
        self.widget.settings_panel.prepares_slides.value = False  # the runs need the processors
        self.widget.confirm_whole_slide = lambda text: True
        self.problems: list[str] = []
        self.controller.messages.error_message.connect(self.problems.append)
        self.taken: dict[str, list[Path]] = {}

    @property
    def controller(self) -> Any:
        """The controller of the window."""
        return self.widget.controller

    def take(self, stores: list[Path]) -> None:
        """Open the slides, run them with each factor, and save pictures of each at each size and theme."""
        for store in stores:
            self.widget.open_path(store)
            self.wait()
            for factor in self.options.factors:
                self.run(factor)
        for size in self.options.sizes:
            self.resize(size)
            for theme in self.options.themes:
                self.viewer.theme = theme
                for session in list(self.controller.slides.sessions):
                    self.look_at(session, f"{size}_{theme}")
                self.look_at_all(f"{size}_{theme}")
        for name, pictures in self.taken.items():
            contact_sheet(pictures, self.options.output / f"sheet_{name}.png")
        self.viewer.close()

    def run(self, factor: float) -> None:
        """Upsample two genes of the current slide."""
        widget, genes = self.widget, self.widget.gene_panel.model
        slide = self.controller.slides.slide
        known = [gene for gene in self.options.genes if gene in slide.genes]
        genes.check((known or list(genes.listed))[:2], only=True)
        widget.settings_panel.factor.value = factor
        widget.settings_panel.method.value = self.options.method
        widget.run_bar.run.click()
        self.wait()
        print(widget.run_bar.status.text(), flush=True)

    def resize(self, size: str) -> None:
        """Fit the window to a screen."""
        from qtpy.QtCore import QSize
        from qtpy.QtWidgets import QDockWidget

        from napari_srast.gui.widgets.screen_fit import ScreenFit

        for dock in self.widget.window().findChildren(QDockWidget):
            if "controls" in dock.objectName():
                dock.show()
        ScreenFit(self.widget).fit(QSize(*map(int, size.split("x"))))
        self.pause()

    def look_at(self, session: Any, group: str) -> None:
        """Save pictures of one slide: before a run, and each result in several views."""
        controller, explore = self.controller, self.widget.result_panel
        controller.slides.switch(session)
        self.widget.tabs.setCurrentIndex(0)
        first = str(session.result.result.genes[0])
        controller.preview.show(first)
        self.save(group, f"{session.title}_prepare")
        self.widget.tabs.setCurrentIndex(1)
        for displayed in session.results:
            controller.results.choose(displayed)
            factor = displayed.result.settings.factor
            explore.model.check([first], only=True)
            self.save(group, f"{session.title}_x{factor:g}")
        explore.model.check([str(gene) for gene in session.result.result.genes], only=True)
        self.save(group, f"{session.title}_two_genes")
        explore.set_view("side_by_side")
        self.pause(3.0)
        self.save(group, f"{session.title}_side_by_side")
        explore.set_view("after")

    def look_at_all(self, group: str) -> None:
        """Save pictures of all slides next to each other: results, then measured counts."""
        if len(self.controller.slides.sessions) < 2:
            return
        self.controller.slides.switch(self.controller.slides.sessions[0])
        self.controller.all_slides.set_on(True)
        self.wait()
        self.save(group, "all_results")
        self.widget.tabs.setCurrentIndex(0)
        self.controller.preview.show(None)
        self.save(group, "all_measured")
        self.widget.tabs.setCurrentIndex(1)
        self.controller.all_slides.set_on(False)

    def wait(self) -> None:
        """Wait until a step has ended and its layers are drawn."""
        from napari_srast.gui.controllers.task_runner import AppState
        from napari_srast.gui.demo import wait_until

        controller = self.controller
        ready = wait_until(lambda: controller.tasks.state is AppState.READY or bool(self.problems), PATIENCE)
        if not ready or self.problems:
            raise RuntimeError(f"A step failed: {self.problems or 'timeout'}")
        self.pause()

    def pause(self, seconds: float = 1.0) -> None:
        """Let the window draw, at least for some seconds."""
        from napari_srast.gui.demo import wait_until

        deadline, overlay = time.monotonic() + seconds, self.controller.results.overlay
        is_shown = lambda: overlay is None or len(overlay.shown) == len(overlay.genes)  # noqa: E731
        settled = lambda: is_shown() and self.controller.all_slides.is_settled  # noqa: E731
        wait_until(lambda: time.monotonic() > deadline and settled(), seconds + 60)

    def save(self, group: str, name: str) -> None:
        """Save a picture of the whole window."""
        self.pause()
        path = self.options.output / f"{group}_{name}.png"
        picture = self.viewer.window.screenshot(canvas_only=False, flash=False)
        Image.fromarray(picture).convert("RGB").save(path, optimize=True)
        self.taken.setdefault(group, []).append(path)


def contact_sheet(pictures: list[Path], path: Path, columns: int = 4, width: int = 640) -> None:
    """Save several pictures in one, in rows."""
    small = []
    for picture in pictures:
        with Image.open(picture) as full:
            small.append(full.resize((width, round(width * full.height / full.width)), Image.Resampling.LANCZOS))
    height = max(one.height for one in small)
    sheet = Image.new("RGB", (columns * width, -(-len(small) // columns) * height), "#808080")
    for number, one in enumerate(small):
        sheet.paste(one, (number % columns * width, number // columns * height))
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
