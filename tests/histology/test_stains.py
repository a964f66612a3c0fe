"""Conversion of pixel values: bright field to optical density and stains, dark images to fluorescence."""

from __future__ import annotations

import numpy as np
import pytest

from napari_srast.histology.stains import density_and_masks, fit_stain_model, to_stain_channels

SIDE = 40
HEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])  # optical density of the dyes


def stained(hematoxylin: np.ndarray, eosin: np.ndarray, glass: float = 240.0) -> np.ndarray:
    """Return an image (3, y, x), uint8, with given amounts of the dyes."""
    density = HEMATOXYLIN[:, None, None] * hematoxylin + EOSIN[:, None, None] * eosin
    return np.round(glass * 10**-density).astype(np.uint8)


@pytest.fixture(scope="module")
def amounts() -> tuple[np.ndarray, np.ndarray]:
    """Amounts of hematoxylin and eosin: glass at the left, eosin at the right, nuclei in the lower half of it."""
    eosin = np.zeros((SIDE, SIDE))
    eosin[:, SIDE // 2 :] = 0.3
    hematoxylin = np.zeros((SIDE, SIDE))
    hematoxylin[SIDE // 2 :, SIDE // 2 :] = 0.5
    return hematoxylin, eosin


def test_stained_tissue_on_glass_is_color_and_its_dyes_are_separated(amounts: tuple[np.ndarray, np.ndarray]) -> None:
    image = stained(*amounts)
    model = fit_stain_model(image)
    assert model.kind == "color"
    np.testing.assert_allclose(model.background, 240)
    channels = dict(zip(model.names, to_stain_channels(image, model), strict=True))
    assert abs(channels["red"][:, : SIDE // 2]).max() < 0.01  # glass
    nuclei, cytoplasm = np.s_[-1, -1], np.s_[0, -1]
    assert channels["hematoxylin"][nuclei] > 5 * channels["hematoxylin"][cytoplasm]
    assert channels["eosin"][cytoplasm] > 0
    _, (is_nucleus, is_tissue) = density_and_masks(to_stain_channels(image, model), model)
    np.testing.assert_array_equal(is_tissue > 0, amounts[1] > 0)
    np.testing.assert_array_equal(is_nucleus > 0, amounts[0] > 0)


def test_optical_density_is_linear_in_the_amount_of_stain() -> None:
    amount = np.tile(np.maximum(np.linspace(-1, 0.5, SIDE), 0), (SIDE, 1))  # most of it is glass
    image = 1000 * 10 ** -amount[None]
    model = fit_stain_model(image)
    assert (model.kind, model.names) == ("gray", ("density",))
    np.testing.assert_allclose(to_stain_channels(image, model)[0], np.log(10) * amount, atol=0.02)


def test_dark_image_is_fluorescence_on_the_scale_of_its_signal() -> None:
    rng = np.random.default_rng(0)
    image = np.where(rng.random((5, SIDE, SIDE)) < 0.2, 4000.0, 100.0) * np.array([1, 2, 3, 4, 5])[:, None, None]
    model = fit_stain_model(image)
    assert model.kind == "fluorescence"
    assert model.names == tuple(f"channel_{i}" for i in range(5))
    values = to_stain_channels(image, model)
    assert values.min() == 0
    np.testing.assert_allclose(values.max(axis=(1, 2)), np.log1p(10), rtol=1e-5)


@pytest.mark.parametrize(("names", "n_used"), [((), 3), (("r", "g", "b", "alpha"), 3)])
def test_opacity_is_no_stain(amounts: tuple[np.ndarray, np.ndarray], names: tuple[str, ...], n_used: int) -> None:
    image = np.concatenate([stained(*amounts), np.full((1, SIDE, SIDE), 255, dtype=np.uint8)])
    model = fit_stain_model(image, names)
    assert (model.kind, len(model.channels)) == ("color", n_used)


def test_black_and_undefined_pixels_are_bare(amounts: tuple[np.ndarray, np.ndarray]) -> None:
    image = stained(*amounts).astype(float)
    model = fit_stain_model(image)
    image[:, 0, 0], image[:, 0, 1] = 0, np.nan
    np.testing.assert_array_equal(to_stain_channels(image, model)[:3, 0, :2], 0)


def test_uniform_image_has_neither_nuclei_nor_tissue() -> None:
    image = np.full((3, SIDE, SIDE), 200, dtype=np.uint8)
    model = fit_stain_model(image)
    assert not density_and_masks(to_stain_channels(image, model), model)[1].any()
