from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_srast.gui.layers.camera import MARGIN, CameraBookmark, FittedView

pytestmark = pytest.mark.gui
LOW = np.array([0.0, 0.0])


@pytest.fixture
def viewer() -> ViewerModel:
    """A viewer that shows x from -20 to 80 and y from -5 to 45."""
    viewer = ViewerModel()
    viewer.canvas.size = (100, 200)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0.0, 20.0, 30.0), 2.0
    return viewer


def test_camera_stays_if_everything_is_in_view(viewer: ViewerModel) -> None:
    camera = viewer.scene.camera
    before = camera.center, camera.zoom
    bookmark = CameraBookmark(viewer)
    bookmark.show(LOW, np.array([70.0, 40.0]))
    assert (camera.center, camera.zoom) == before


def test_camera_zooms_out_and_returns(viewer: ViewerModel) -> None:
    camera = viewer.scene.camera
    before = camera.center, camera.zoom
    bookmark = CameraBookmark(viewer)
    bookmark.show(LOW, np.array([300.0, 40.0]))
    assert camera.center[-2:] == (20.0, 150.0)
    assert 0.55 < camera.zoom < 200 / 300
    bookmark.go_back()
    assert (camera.center, camera.zoom) == before


def test_camera_does_not_return_after_the_user_has_zoomed(viewer: ViewerModel) -> None:
    bookmark = CameraBookmark(viewer)
    bookmark.show(LOW, np.array([300.0, 40.0]))
    viewer.scene.camera.zoom = 5.0
    bookmark.go_back()
    assert (viewer.scene.camera.center[-1], viewer.scene.camera.zoom) == (150.0, 5.0)


def _fitted(viewer: ViewerModel) -> tuple[FittedView, Image]:
    layer = viewer.add_image(np.zeros((30, 40)))
    view = FittedView(viewer)
    view.fit([layer])
    return view, layer


def test_fitted_view_follows_a_narrower_canvas(viewer: ViewerModel) -> None:
    view, _ = _fitted(viewer)
    assert viewer.scene.camera.zoom == pytest.approx(100 / 30 / MARGIN, rel=0.05)
    viewer.canvas.size = (100, 80)
    view.fit_again()
    assert viewer.scene.camera.zoom == pytest.approx(80 / 40 / MARGIN, rel=0.05)


def test_fitted_view_leaves_a_moved_camera(viewer: ViewerModel) -> None:
    view, _ = _fitted(viewer)
    viewer.scene.camera.zoom = 5.0
    viewer.canvas.size = (100, 80)
    view.fit_again()
    assert viewer.scene.camera.zoom == 5.0


def test_fitted_view_ignores_removed_layers(viewer: ViewerModel) -> None:
    view, layer = _fitted(viewer)
    viewer.layers.remove(layer)
    viewer.scene.camera.center, viewer.scene.camera.zoom = view._position or ((0.0, 0.0, 0.0), 1.0)
    viewer.canvas.size = (100, 80)
    before = viewer.scene.camera.zoom
    view.fit_again()
    assert viewer.scene.camera.zoom == before
