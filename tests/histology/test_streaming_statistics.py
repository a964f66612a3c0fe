"""Moments of an image on a coarse grid, the window that is read, and the hash of what is read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_srast.core.slide import SlideImage
from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.histology import streaming_statistics
from napari_srast.histology.streaming_statistics import image_digest, image_window, stream_image_statistics

PITCH = 48.0
SPOTS = PITCH * (np.argwhere(np.ones((4, 4))) + 1.0)


@pytest.fixture
def image() -> SlideImage:
    """A gray image of 240 x 240 pixels with a bright background and dark squares."""
    pixels = np.full((1, 240, 240), 250, dtype=np.uint8)
    pixels[:, 60:120, 96:180] = 90
    pixels[:, 150:170, 30:70] = 40
    return SlideImage(name="gray", levels=(pixels,), to_intrinsic=(np.eye(3),))


def test_moments_are_those_of_the_pixels_of_each_cell(image: SlideImage) -> None:
    found = stream_image_statistics(image, SPOTS, PITCH)
    side = int(found.cell_size)
    density = found.names.index("density")
    values = -np.log(image.levels[0][0] / 250.0)
    corner = apply_affine(np.linalg.inv(found.to_grid), np.array([[0.0, 0.0]]))[0].astype(int)
    rows, cols = found.mean.shape[1:]
    blocks = values[corner[1] : corner[1] + side * rows, corner[0] : corner[0] + side * cols]
    blocks = blocks.reshape(rows, side, cols, side)
    np.testing.assert_allclose(found.mean[density], blocks.mean(axis=(1, 3)), atol=1e-5)
    np.testing.assert_allclose(found.square[density], (blocks**2).mean(axis=(1, 3)), atol=1e-5)
    assert set(np.unique(found.mean[found.names.index("tissue")])) <= {0.0, 0.25, 0.5, 0.75, 1.0}


def test_strips_change_no_number(image: SlideImage, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stream_image_statistics(image, SPOTS, PITCH)
    monkeypatch.setattr(streaming_statistics, "_STRIP_VALUES", 3000)
    strips = stream_image_statistics(image, SPOTS, PITCH)
    np.testing.assert_allclose(strips.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(strips.square, whole.square, rtol=1e-6)


def test_window_has_a_margin_and_ends_with_the_image() -> None:
    to_intrinsic = np.diag([2.0, 2.0, 1.0])  # a pixel has two units
    assert image_window((1, 100, 80), np.array([[40.0, 60.0], [60.0, 80.0]]), to_intrinsic, 5.0, "a") == (
        15,
        25,
        35,
        45,
    )
    assert image_window((1, 100, 80), np.array([[2.0, 2.0], [158.0, 198.0]]), to_intrinsic, 5.0, "a") == (0, 0, 80, 100)
    with pytest.raises(InputError, match="'a' does not cover the spots"):
        image_window((1, 100, 80), np.array([[500.0, 60.0]]), to_intrinsic, 5.0, "a")


def test_digest_depends_on_what_is_read_and_not_on_the_name(image: SlideImage) -> None:
    digest = image_digest(image, SPOTS, PITCH)
    assert image_digest(dataclasses.replace(image, name="other"), SPOTS, PITCH) == digest
    changed = image.levels[0].copy()
    changed[0, 100, 100] += 1
    assert image_digest(dataclasses.replace(image, levels=(changed,)), SPOTS, PITCH) != digest
    moved = np.eye(3)
    moved[0, 2] = 3.0
    assert image_digest(dataclasses.replace(image, to_intrinsic=(moved,)), SPOTS, PITCH) != digest
    few = SPOTS[:4]  # of the left border: pixels far to the right are not read
    changed = image.levels[0].copy()
    changed[0, 100, 239] += 1
    assert image_digest(image, few, 10.0) == image_digest(dataclasses.replace(image, levels=(changed,)), few, 10.0)
