"""Test ``upsample`` with every kind of image: it is recognized, improves the result, and conserves counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest
from dask import delayed

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import SlideImage
from napari_srast.histology import fit_image_expert

PITCH = 100.0


def _gain(result: UpsampleResult, tissue) -> float:
    """Return the gain over a uniform split, in nats per count, of the genes of the stained cells."""
    np.testing.assert_array_equal(result.raster.parent, tissue.layout.parent)
    counts, truth = result.counts[:, :3].toarray(), tissue.truth[:, :3]
    spots = result.slide.counts[:, :3].toarray()[result.raster.parent]
    ratio = np.divide(counts, spots, out=np.ones_like(counts), where=spots > 0)
    return float((truth * np.log(4 * np.maximum(ratio, 1e-9))).sum() / truth.sum())


@pytest.fixture(scope="module")
def gain_without(tissue) -> float:
    result = tissue.upsample()
    assert "image" not in result.provenance["calibration"]
    assert "notices" not in result.provenance
    return _gain(result, tissue)


def _converted(tissue, kind: str, convert: Callable[[np.ndarray], Any], channels: tuple[str, ...] = ()) -> SlideImage:
    plain = tissue.image(kind)
    return SlideImage(name="he", levels=(convert(plain.levels[0]),), to_intrinsic=plain.to_intrinsic, channels=channels)


def _padded(tissue, value: int, width: int = 500) -> SlideImage:
    """Return an image that is much larger than the tissue."""
    plain = tissue.image()
    pixels = np.pad(plain.levels[0], ((0, 0), (width, width), (width, width)), constant_values=value)
    move = np.eye(3)
    move[:2, 2] = -width
    return SlideImage(name="he", levels=(pixels,), to_intrinsic=(plain.to_intrinsic[0] @ move,))


def _masked(tissue, value: int) -> SlideImage:
    """Return an image whose background is masked, as segmentation programs do."""
    return _converted(tissue, "color", lambda p: np.where(tissue.density > 0, p, value).astype(np.uint8))


IMAGES: dict[str, tuple[str, Callable[[Any], SlideImage]]] = {
    "color": ("color", lambda t: t.image()),
    "color of 16 bits": ("color", lambda t: t.image("color16")),
    "color as floats": ("color", lambda t: _converted(t, "color", lambda p: (p / 255).astype(np.float32))),
    "color with opacity": ("color", lambda t: t.image("alpha")),
    "opacity by name, 16 bits": (
        "color",
        lambda t: _converted(t, "alpha", lambda p: p.astype(np.uint16) * 257, channels=("r", "g", "b", "a")),
    ),
    "gray": ("gray", lambda t: t.image("gray")),
    "gray as floats": ("gray", lambda t: _converted(t, "gray", lambda p: p / 255)),
    "gray stored as color": ("color", lambda t: _converted(t, "gray", lambda p: np.repeat(p, 3, axis=0))),
    "fluorescence of 16 bits": ("fluorescence", lambda t: t.image("fluorescence")),
    "one stain": ("fluorescence", lambda t: _converted(t, "fluorescence", lambda p: p[:1], channels=("dapi",))),
    "seven stains": (
        "fluorescence",
        lambda t: _converted(
            t, "fluorescence", lambda p: np.concatenate([p, p[1:2] + 3, p]), channels=tuple("abcdefg")
        ),
    ),
    "much larger than the tissue": ("color", lambda t: _padded(t, 255)),
    "on black": ("color", lambda t: _padded(t, 0)),
    "masked in black": ("color", lambda t: _masked(t, 0)),
    "not a number off the tissue": (
        "color",
        lambda t: _converted(t, "color", lambda p: np.where(t.density > 0, p / 255, np.nan)),
    ),
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_image_kind_improves_the_result(tissue, gain_without: float, name: str) -> None:
    kind, make = IMAGES[name]
    result = tissue.upsample(make(tissue))
    image_record = result.provenance["calibration"]["image"]
    assert image_record["kind"] == kind
    assert image_record["used"]
    assert "notices" not in result.provenance
    assert result.provenance["max_relative_mass_error"] <= 1e-6
    assert result.provenance["negative_pixels"] == 0
    assert _gain(result, tissue) > gain_without + 0.012
    nats = np.array(image_record["nats_expected_by_gene"])
    assert nats.shape == (6,)
    assert nats[:3].min() > nats[3:].max()  # the genes of the stained cells


def test_image_of_half_the_tissue_helps_only_there(tissue, gain_without: float) -> None:
    half = _converted(tissue, "color", lambda p: p[:, :, : p.shape[2] // 2])
    result, without = tissue.upsample(half), tissue.upsample()
    assert result.provenance["calibration"]["image"]["covered"] == pytest.approx(0.5)
    (notice,) = result.provenance["notices"]
    assert "50% of the spots" in notice
    assert _gain(result, tissue) > gain_without + 0.004
    uncovered = result.raster.centers[:, 0] > tissue.centers[:, 0].mean() + PITCH  # without the spots at the edge
    np.testing.assert_allclose(
        result.counts[uncovered].toarray(), without.counts[uncovered].toarray(), rtol=1e-4, atol=1e-5
    )


def test_only_the_needed_part_of_a_large_image_is_read(tissue) -> None:
    """Nothing of the finest level is read, and of the coarser level only the part around the spots."""
    plain, factor, margin, chunk = tissue.image(), 60, 164, 50
    shown = plain.levels[0].repeat(2, axis=1).repeat(2, axis=2)  # 48 pixels per pitch, which is the resolution in use
    pixels = np.pad(shown, ((0, 0), (margin, margin), (margin, margin)), constant_values=255)
    n_chunks = pixels.shape[2] // chunk
    read: list[int] = []

    def part(block_info: Any = None) -> np.ndarray:
        _, rows, columns = block_info[None]["array-location"]
        read.append(columns[0])
        return pixels[:, slice(*rows), slice(*columns)]

    def fail_on_read() -> np.ndarray:
        raise AssertionError("the finest level was read")

    coarse = da.map_blocks(part, chunks=((3,), (chunk,) * n_chunks, (chunk,) * n_chunks), dtype=np.uint8)
    finest = da.from_delayed(delayed(fail_on_read)(), (3, coarse.shape[1] * factor, 60_000), np.uint8)
    to_coarse = plain.to_intrinsic[0] @ np.array([[0.5, 0, -margin / 2], [0, 0.5, -margin / 2], [0, 0, 1]])
    image = SlideImage(
        name="he",
        levels=(finest, coarse),
        to_intrinsic=(to_coarse @ np.diag([1 / factor, 1 / factor, 1.0]), to_coarse),
    )
    expert = fit_image_expert(tissue.counts, tissue.centers, PITCH, image)
    assert min(read) == chunk  # two pitches around the spots
    assert max(read) == (n_chunks - 2) * chunk
    unpadded = fit_image_expert(tissue.counts, tissue.centers, PITCH, plain)
    assert expert.fit.evidence == pytest.approx(unpadded.fit.evidence, rel=0.2)
