"""Test wrong, shifted and degraded images on real slides.

``python docs/make_histology_controls.py SLIDES wrong shifted spoilt small [--only NAME] [--json FILE]``, where SLIDES
is as for make_histology.py. Prints the numbers of these parts of results/histology.md, one line for each image:
wrong images, the correct image shifted, the correct image degraded, and small parts of slides. Images are tested on the
coarsened slide, where their gain can be scored, and for slides of up to 1,000 spots also on the slide's own spots, as
in a user's run. Images that have 18 pixels per pitch at a half or a quarter of their resolution are read at that level,
for speed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from make_histology import CoarsenedSlide, place_under
from scipy import ndimage

from napari_srast.core.slide import SlideImage
from napari_srast.histology import fit_image_expert
from napari_srast.histology.offset import estimate_offset
from napari_srast.histology.streaming_statistics import level_for
from napari_srast.interpolation import Denoiser, Interpolator

MIN_PIXELS_PER_PITCH = 18
MAX_OWN_SPOTS = 1000  # of slides that are also tested on their own spots
SMALL = (100, 200)  # native spots of the small parts
TEXTURES = (0.1, 0.3, 1.0)  # widths of the blur, in coarse pitches
TURNS = {
    "turned 90": ((0, -1), (1, 0)),
    "turned 180": ((-1, 0), (0, -1)),
    "turned 270": ((0, 1), (-1, 0)),
    "mirrored left-right": ((-1, 0), (0, 1)),
    "mirrored up-down": ((1, 0), (0, -1)),
    "transposed": ((0, 1), (1, 0)),
    "transposed across": ((0, -1), (-1, 0)),
}
FAR = {"3 pitches right": (3, 0), "3 pitches left": (-3, 0), "3 pitches down": (0, 3), "3 pitches up": (0, -3)}


def use_coarse_level(case: CoarsenedSlide) -> CoarsenedSlide:
    """Replace the image by its coarsest level that is fine enough."""
    level, _ = level_for(case.image, case.native_pitch / MIN_PIXELS_PER_PITCH)
    image = case.image
    case.image = replace(image, levels=(image.levels[level],), to_intrinsic=(image.to_intrinsic[level],))
    return case


def wrong_images(case: CoarsenedSlide, others: list[CoarsenedSlide]) -> Iterator[tuple[str, str, SlideImage]]:
    """Yield images that are unrelated to the counts: group, name, image."""
    for name, turn in TURNS.items():
        matrix = np.eye(3)
        matrix[:2, :2] = turn
        yield "turned or mirrored", name, case.transformed(matrix)
    for other in others:
        yield "another slide's", other.name, place_under(other, case)
    for name, shift in FAR.items():
        yield "shifted by 3 pitches", name, case.shifted(shift)
    pixels, (_, side) = case.image.levels[0], level_for(case.image, 1.0)
    per_pitch = case.layout.pitch / side
    rng, size = np.random.default_rng(0), pixels.shape[1:]

    def to_image(values: np.ndarray) -> SlideImage:
        shown = np.clip(values, 0, 255).astype(np.uint8)
        return replace(case.image, levels=(shown,), to_intrinsic=case.image.to_intrinsic)

    yield "noise", "uniform, by channel", to_image(rng.integers(0, 256, pixels.shape))
    yield "noise", "normal, gray", to_image(np.repeat(rng.normal(200, 30, (1, *size)), 3, axis=0))
    yield "noise", "sparse dark dots", to_image(np.where(rng.random((1, *size)) < 0.02, 60, 235).repeat(3, axis=0))
    colors = pixels.reshape(3, -1)[:, np.argsort(pixels.sum(axis=0, dtype=int), axis=None)]
    for width in TEXTURES:
        field = ndimage.gaussian_filter(rng.normal(size=size), width * per_pitch)
        shown = np.empty_like(colors)
        shown[:, np.argsort(field, axis=None)] = colors  # the correct image's colors, from dark to light
        yield "texture", f"{width} pitches", to_image(shown.reshape(pixels.shape))
    yield "own tiles, shuffled", "tiles of a pitch", to_image(_shuffle_tiles(pixels, max(2, round(per_pitch)), rng))


def _shuffle_tiles(pixels: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Shuffle square tiles of an image."""
    rows, columns = (n // side for n in pixels.shape[1:])
    tiles = pixels[:, : rows * side, : columns * side].reshape(3, rows, side, columns, side).transpose(1, 3, 0, 2, 4)
    tiles = rng.permutation(tiles.reshape(rows * columns, 3, side, side)).reshape(rows, columns, 3, side, side)
    shuffled = pixels.copy()
    shuffled[:, : rows * side, : columns * side] = tiles.transpose(2, 0, 3, 1, 4).reshape(
        3, rows * side, columns * side
    )
    return shuffled


def degraded_images(case: CoarsenedSlide) -> Iterator[tuple[str, SlideImage]]:
    """Yield the correct image with defects that occur in practice."""
    pixels, to_spots = case.image.levels[0].astype(np.float32), case.image.to_intrinsic[0]
    side = case.native_pitch / np.sqrt(abs(np.linalg.det(to_spots[:2, :2])))  # pixels per native pitch
    rows, columns = pixels.shape[1:]
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    rng, top = np.random.default_rng(0), np.percentile(pixels, 99)

    def to_image(name: str, values: np.ndarray, scale: float = 1.0) -> tuple[str, SlideImage]:
        shown = np.clip(values, 0, 255).astype(np.uint8)
        return name, SlideImage(name="he", levels=(shown,), to_intrinsic=(to_spots @ np.diag([scale, scale, 1.0]),))

    strokes = np.zeros((rows, columns), dtype=bool)
    for _ in range(3):
        angle, reach = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8)
        strokes |= np.abs((x - reach * columns) * np.sin(angle) - (y - reach * rows) * np.cos(angle)) < 0.3 * side
    yield to_image("glass masked in black", np.where(pixels.min(axis=0) > 0.85 * top, 0, pixels))
    yield to_image("three black pen strokes", np.where(strokes, 25, pixels))
    yield to_image("three blue pen strokes", np.where(strokes, np.array([40, 60, 180])[:, None, None], pixels))
    yield to_image("three folds", np.where(strokes, pixels**2 / 255, pixels))
    yield to_image("overexposed", 1.4 * pixels)
    yield to_image("dark", 0.4 * pixels)
    yield to_image(
        "yellow, lit from the left", pixels * np.array([1.0, 0.95, 0.7])[:, None, None] * (1 - 0.4 * x / columns)
    )
    yield to_image(
        "out of focus by a quarter of a pitch", ndimage.gaussian_filter(pixels, (0, 0.25 * side, 0.25 * side))
    )
    yield to_image("gray", np.repeat(pixels.mean(axis=0, keepdims=True), 3, axis=0))
    yield to_image("inverted", 255 - pixels)
    step = max(1, round(side / 4))
    blocks = pixels[:, : rows // step * step, : columns // step * step]
    blocks = blocks.reshape(3, rows // step, step, columns // step, step).mean(axis=(2, 4))
    yield to_image("4 pixels to a native pitch", blocks, float(step))
    middle = round(float((np.linalg.inv(to_spots) @ [*case.centers.mean(axis=0), 1.0])[0]))
    yield to_image("left half only", pixels[:, :, :middle])


def evaluate_image(
    case: CoarsenedSlide, image: SlideImage, without: np.ndarray, alone: float, own_spots: bool = True
) -> dict[str, object]:
    """Test one image on the coarse slide, with its gain over the result without it, and on the slide's own spots."""
    expert = case.expert(image)
    offset = estimate_offset(expert) if expert.informative else None  # without evidence the image is not used
    used, nats = offset is not None and offset.usable, alone
    if offset is not None and offset.usable:
        nats = case.score(case.pool_image(without, expert, offset))[0]
    row: dict[str, object] = {
        "evidence": round(expert.fit.evidence, 2),
        "used": used,
        "noticed": offset is None or offset.warning("he") is not None,
        "nats": round(nats - alone, 5),
        "gain": round(nats / alone - 1, 4),
    }
    if own_spots and len(case.spots) <= MAX_OWN_SPOTS:
        own = fit_image_expert(case.all_counts, case.spots, case.native_pitch, image)
        row["own_evidence"] = round(own.fit.evidence, 2)
        row["own_used"] = own.informative and estimate_offset(own).usable
    return row


def shifts(case: CoarsenedSlide) -> list[dict[str, object]]:
    """Shift the image by half a pitch in eight directions; return the errors of the reported shifts, in pitches."""
    unshifted = np.array(estimate_offset(case.expert(case.image)).offset) / case.layout.pitch
    rows: list[dict[str, object]] = []
    for angle in np.arange(8) * np.pi / 4:
        shift = 0.5 * np.array([np.cos(angle), np.sin(angle)])
        offset = estimate_offset(case.expert(case.shifted((float(shift[0]), float(shift[1])))))
        reported = np.array(offset.offset) / case.layout.pitch
        rows.append(
            {
                "direction": round(float(np.degrees(angle))),
                "noticed": offset.misaligned,
                "error": round(float(np.hypot(*(reported - shift))), 3),
                "error_from_home": round(float(np.hypot(*(reported - unshifted - shift))), 3),
                "used": offset.usable,
            }
        )
    return rows


def without_image(case: CoarsenedSlide) -> tuple[np.ndarray, float]:
    """Return the ratios without an image, and their nats per count."""
    smooth = Denoiser(case.counts, case.layout.spots, case.layout.pitch).fields(case.genes)
    without = Interpolator(case.layout).ratios("gp", smooth)
    return without, case.score(without)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path)
    parser.add_argument("what", choices=("wrong", "shifted", "spoilt", "small"), nargs="+")
    parser.add_argument("--genes", type=int, default=600)
    parser.add_argument("--only", default="")
    parser.add_argument("--coarse", action="store_true", help="do not test on the slides' own spots")
    parser.add_argument("--json", type=Path, help="also write all numbers as JSON")
    chosen = parser.parse_args()
    paths = [p for p in sorted(chosen.slides.glob("*.h5ad")) if p.with_name(f"{p.stem}_he.jpg").exists()]
    cases = [
        use_coarse_level(CoarsenedSlide(path, chosen.genes))
        for path in paths
        if chosen.only in path.stem or "wrong" in chosen.what
    ]
    rows: list[dict[str, object]] = []

    def report(what: str, case: CoarsenedSlide, row: dict[str, object]) -> None:
        rows.append({"what": what, "slide": case.name, **row})
        print(json.dumps(rows[-1]), flush=True)
        if chosen.json is not None:
            chosen.json.write_text(json.dumps(rows, indent=1))

    for case in (case for case in cases if chosen.only in case.name):
        if {"wrong", "spoilt"} & set(chosen.what):
            without, alone = without_image(case)
            report("right", case, evaluate_image(case, case.image, without, alone, own_spots=not chosen.coarse))
        if "wrong" in chosen.what:
            for group, name, image in wrong_images(case, [other for other in cases if other is not case]):
                result = evaluate_image(case, image, without, alone, own_spots=not chosen.coarse)
                report("wrong", case, {"group": group, "image": name, **result})
        if "spoilt" in chosen.what:
            for name, image in degraded_images(case):
                report("spoilt", case, {"image": name, **evaluate_image(case, image, without, alone, own_spots=False)})
        if "shifted" in chosen.what:
            for row in shifts(case):
                report("shifted", case, row)
        if "small" in chosen.what:
            for n_spots in SMALL:
                part = use_coarse_level(
                    CoarsenedSlide(paths[[p.stem for p in paths].index(case.name)], chosen.genes, n_spots)
                )
                report(
                    "small",
                    part,
                    {"spots": part.layout.n_spots, **evaluate_image(part, part.image, *without_image(part))},
                )


if __name__ == "__main__":
    main()
