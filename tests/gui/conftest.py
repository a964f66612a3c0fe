"""What the tests of the window share: slides, results, and a window with the real dock widget."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import platformdirs
import pytest
from helpers import slides

from napari_srast.core.slide import Slide, SlideImage, SlideSource

collect_ignore_glob = [] if find_spec("napari") else ["*"]

TURNED = np.array([[0.8, -0.6, 10.0], [0.6, 0.8, 20.0], [0.0, 0.0, 1.0]])


@pytest.fixture(autouse=True)
def _separate_preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store recent slides and favorites of the tests in a folder of their own, as of a user who has seen the tour.

    Slides are not prepared in the background, except in the tests of that.
    """
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "window.json").write_text('{"has_toured": true, "prepares_slides": false}')
    monkeypatch.setattr(platformdirs, "user_state_path", lambda *_: folder)


@pytest.fixture(autouse=True)
def _unfreeze_gc() -> Iterator[None]:
    """Include in garbage collection what a test has excluded."""
    yield
    from napari_srast.gui.runtime import gc_pause

    gc_pause.unfreeze_gc()


@pytest.fixture
def skewed_slide(make_slide: Callable[..., Slide]) -> Slide:
    """A slide with histology, in three coordinate systems."""
    from helpers.window import SKEWED  # it needs Qt, which a run without the window's tests may lack

    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 240, (3, 80, 100), dtype=np.uint8)
    to_intrinsic = np.array([[9.0, 1.0, -60.0], [-0.5, 10.0, -40.0], [0.0, 0.0, 1.0]])
    image = SlideImage(
        name="he",
        levels=(pixels, pixels[:, ::2, ::2]),
        to_intrinsic=(to_intrinsic, to_intrinsic @ np.diag([2.0, 2.0, 1.0])),
        channels=("r", "g", "b"),
    )
    return make_slide(
        rows=6,
        cols=7,
        n_genes=9,
        image=image,
        transforms={"global": np.eye(3), "skewed": SKEWED, "turned": TURNED},
        source=SlideSource(synthetic=True),
    )


@pytest.fixture
def write_slide(tmp_path: Path) -> Callable[..., Path]:
    """Write small slides with histology: :func:`helpers.slides.import_slide_with_image` in ``tmp_path``."""
    return functools.partial(slides.import_slide_with_image, tmp_path)


@pytest.fixture
def store(write_slide: Callable[..., Path]) -> Path:
    """Write a small slide with histology and return its path."""
    return write_slide()


@pytest.fixture
def open_window(make_napari_viewer: Callable[..., Any], qtbot: Any) -> Iterator[Callable[[], Any]]:
    """Open a napari window with the dock widget, as a user gets it.

    A factory, because pytest keeps what a fixture returns until after the check for leaked viewers.
    """
    from napari.settings import get_settings

    widgets: WeakSet[Any] = WeakSet()

    def make() -> Any:
        viewer = make_napari_viewer(show=True)
        # Notifications are recorded all the same; their pop-ups would outlive the viewer.
        get_settings().application.gui_notification_level = "none"
        _, widget = viewer.window.add_plugin_dock_widget("napari-srast", "SRast")
        widgets.add(widget)
        qtbot.waitUntil(widget.isVisible, timeout=120_000)
        return widget

    yield make
    for widget in widgets:
        widget.controller.shutdown()


@pytest.fixture
def widget(qtbot: Any) -> Iterator[Any]:
    """The dock widget next to a viewer without a canvas: quick, where what matters is not drawn."""
    from napari.components import ViewerModel

    from napari_srast.gui.widget import SRastWidget

    widget = SRastWidget(ViewerModel())
    qtbot.addWidget(widget)
    widget.show()
    yield widget
    widget.controller.shutdown()
