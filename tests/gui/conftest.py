"""What the tests of the window share: slides, results, and a window with the real dock widget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakSet

import anndata
import numpy as np
import platformdirs
import pytest
from PIL import Image as PillowImage
from scipy import sparse

from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide, SlideImage, SlideSource

collect_ignore_glob = [] if find_spec("napari") else ["*"]

TURNED = np.array([[0.8, -0.6, 10.0], [0.6, 0.8, 20.0], [0.0, 0.0, 1.0]])


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep recent slides and favorites of the tests apart from the user's."""
    monkeypatch.setattr(platformdirs, "user_state_path", lambda *_: tmp_path / "state")


@pytest.fixture(autouse=True)
def _nothing_aside() -> Iterator[None]:
    """Take back what a test left out of collections of garbage."""
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
def make_store(tmp_path: Path) -> Callable[..., Path]:
    """Write a small slide with histology, as a user's own file."""

    def make(name: str = "breast", n_genes: int = 12, seed: int = 0) -> Path:
        from napari_srast.io.convert.h5ad import import_slide

        rng = np.random.default_rng(seed)
        row, col = (a.ravel() for a in np.mgrid[:6, :6])
        table = anndata.AnnData(sparse.csr_matrix(rng.poisson(8, (36, n_genes)).astype(np.float32)))
        table.var_names = [f"Gene{i}" for i in range(n_genes)]
        table.obs_names = [f"spot{i}" for i in range(36)]
        table.obsm["spatial"] = np.column_stack([col, row]) * 100.0
        table.obsm["spatial_px"] = table.obsm["spatial"] / 5 + 20
        table.write_h5ad(tmp_path / f"{name}.h5ad")
        PillowImage.fromarray(rng.integers(80, 240, (140, 140, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
        return import_slide(tmp_path / f"{name}.h5ad", tmp_path / f"{name}.zarr", image=tmp_path / f"{name}.png")

    return make


@pytest.fixture
def store(make_store: Callable[..., Path]) -> Path:
    """A small slide with histology."""
    return make_store()


@pytest.fixture
def make_result() -> Callable[..., UpsampleResult]:
    """Split a slide evenly: a true result, at once."""

    def make(
        slide: Slide,
        region: Region | None = None,
        *,
        genes: list[str] | None = None,
        std: bool = False,
        **settings: Any,
    ) -> UpsampleResult:
        import dataclasses

        from napari_srast.api import upsample

        options = {"factor": 2.0, "method": "uniform", **settings}
        result = upsample(slide, region, genes, settings=UpsampleSettings(**options))
        return dataclasses.replace(result, std=0.5 * result.counts) if std else result

    return make


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
    """The dock widget beside a viewer without a canvas: quick, where what matters is not drawn."""
    from napari.components import ViewerModel

    from napari_srast.gui.widget import SRastWidget

    widget = SRastWidget(ViewerModel())
    qtbot.addWidget(widget)
    widget.show()
    yield widget
    widget.controller.shutdown()
