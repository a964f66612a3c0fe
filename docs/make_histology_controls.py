"""Try images that must earn nothing, and images that are shifted, on real slides.

``python docs/make_histology_controls.py SLIDES wrong shifted spoilt small [--only NAME] [--json FILE]``, where SLIDES
is as for make_histology.py. Prints the figures of these parts of results/histology.md, a line for each image: wrong
ones, the right one shifted, the right one spoilt, and small parts of slides. Images are judged on the slide coarsened
once, where their gain can be scored, and, of slides of up to 1,000 spots, on the slide's own spots, as a user would
have it. Pictures with 18 pixels to a pitch at a half or a quarter of their resolution are taken at that, for speed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from make_histology import Case, laid_on
from scipy import ndimage

from napari_srast.core.slide import SlideImage
from napari_srast.histology import fit_image_expert
from napari_srast.histology.offset import estimate_offset
from napari_srast.histology.streaming_statistics import level_for
from napari_srast.interpolation import Denoiser, Interpolator

FINE_ENOUGH = 18  # pixels to a pitch
FEW = 1000  # spots
SMALL = (100, 200)  # native spots
TEXTURES = (0.1, 0.3, 1.0)  # width of the blur, in coarse pitches
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


def coarser(case: Case) -> Case:
    """Take the picture at the coarsest resolution that is fine enough."""
    level, _ = level_for(case.image, case.native_pitch / FINE_ENOUGH)
    image = case.image
    case.image = replace(image, levels=(image.levels[level],), to_intrinsic=(image.to_intrinsic[level],))
    return case


def wrong_images(case: Case, others: list[Case]) -> Iterator[tuple[str, str, SlideImage]]:
    """Give images that have nothing to do with the counts: group, name, image."""
    for name, turn in TURNS.items():
        matrix = np.eye(3)
        matrix[:2, :2] = turn
        yield "turned or mirrored", name, case.moved(matrix)
    for other in others:
        yield "another slide's", other.name, laid_on(other, case)
    for name, shift in FAR.items():
        yield "shifted by 3 pitches", name, case.shifted(shift)
    pixels, (_, side) = case.image.levels[0], level_for(case.image, 1.0)
    per_pitch = case.layout.pitch / side
    rng, size = np.random.default_rng(0), pixels.shape[1:]

    def drawn(values: np.ndarray) -> SlideImage:
        shown = np.clip(values, 0, 255).astype(np.uint8)
        return replace(case.image, levels=(shown,), to_intrinsic=case.image.to_intrinsic)

    yield "noise", "uniform, by channel", drawn(rng.integers(0, 256, pixels.shape))
    yield "noise", "normal, gray", drawn(np.repeat(rng.normal(200, 30, (1, *size)), 3, axis=0))
    yield "noise", "sparse dark dots", drawn(np.where(rng.random((1, *size)) < 0.02, 60, 235).repeat(3, axis=0))
    colors = pixels.reshape(3, -1)[:, np.argsort(pixels.sum(axis=0, dtype=int), axis=None)]
    for width in TEXTURES:
        field = ndimage.gaussian_filter(rng.normal(size=size), width * per_pitch)
        shown = np.empty_like(colors)
        shown[:, np.argsort(field, axis=None)] = colors  # the right image's own colors, from dark to light
        yield "texture", f"{width} pitches", drawn(shown.reshape(pixels.shape))
    yield "own tiles, shuffled", "tiles of a pitch", drawn(_shuffled(pixels, max(2, round(per_pitch)), rng))


def _shuffled(pixels: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Put square tiles of an image in another order."""
    rows, columns = (n // side for n in pixels.shape[1:])
    tiles = pixels[:, : rows * side, : columns * side].reshape(3, rows, side, columns, side).transpose(1, 3, 0, 2, 4)
    tiles = rng.permutation(tiles.reshape(rows * columns, 3, side, side)).reshape(rows, columns, 3, side, side)
    whole = pixels.copy()
    whole[:, : rows * side, : columns * side] = tiles.transpose(2, 0, 3, 1, 4).reshape(3, rows * side, columns * side)
    return whole


def spoilt_images(case: Case) -> Iterator[tuple[str, SlideImage]]:
    """Give the right image as it should not come from the microscope, but does."""
    pixels, to_spots = case.image.levels[0].astype(np.float32), case.image.to_intrinsic[0]
    side = case.native_pitch / np.sqrt(abs(np.linalg.det(to_spots[:2, :2])))  # pixels to a native pitch
    rows, columns = pixels.shape[1:]
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    rng, top = np.random.default_rng(0), np.percentile(pixels, 99)

    def spoilt(name: str, values: np.ndarray, scale: float = 1.0) -> tuple[str, SlideImage]:
        shown = np.clip(values, 0, 255).astype(np.uint8)
        return name, SlideImage(name="he", levels=(shown,), to_intrinsic=(to_spots @ np.diag([scale, scale, 1.0]),))

    strokes = np.zeros((rows, columns), dtype=bool)
    for _ in range(3):
        angle, reach = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8)
        strokes |= np.abs((x - reach * columns) * np.sin(angle) - (y - reach * rows) * np.cos(angle)) < 0.3 * side
    yield spoilt("glass masked in black", np.where(pixels.min(axis=0) > 0.85 * top, 0, pixels))
    yield spoilt("three black pen strokes", np.where(strokes, 25, pixels))
    yield spoilt("three blue pen strokes", np.where(strokes, np.array([40, 60, 180])[:, None, None], pixels))
    yield spoilt("three folds", np.where(strokes, pixels**2 / 255, pixels))
    yield spoilt("overexposed", 1.4 * pixels)
    yield spoilt("dark", 0.4 * pixels)
    yield spoilt(
        "yellow, lit from the left", pixels * np.array([1.0, 0.95, 0.7])[:, None, None] * (1 - 0.4 * x / columns)
    )
    yield spoilt("out of focus by a quarter of a pitch", ndimage.gaussian_filter(pixels, (0, 0.25 * side, 0.25 * side)))
    yield spoilt("gray", np.repeat(pixels.mean(axis=0, keepdims=True), 3, axis=0))
    yield spoilt("inverted", 255 - pixels)
    step = max(1, round(side / 4))
    blocks = pixels[:, : rows // step * step, : columns // step * step]
    blocks = blocks.reshape(3, rows // step, step, columns // step, step).mean(axis=(2, 4))
    yield spoilt("4 pixels to a native pitch", blocks, float(step))
    middle = round(float((np.linalg.inv(to_spots) @ [*case.centers.mean(axis=0), 1.0])[0]))
    yield spoilt("left half only", pixels[:, :, :middle])


def judge(
    case: Case, image: SlideImage, without: np.ndarray, alone: float, own_spots: bool = True
) -> dict[str, object]:
    """Judge one image on the coarse slide, with its gain over the result without it, and on the slide's own spots."""
    expert = case.expert(image)
    found = estimate_offset(expert) if expert.informative else None  # else it is not used, wherever it fits best
    used, nats = found is not None and found.trusted, alone
    if used:
        local, slopes = expert.on(case.layout), expert.slopes(case.low)
        nats = case.score(np.exp(local.added_to(np.log(np.maximum(without, 1e-9)), slopes, case.layout)))[0]
    told: dict[str, object] = {
        "evidence": round(expert.fit.evidence, 2),
        "used": used,
        "noticed": found is None or found.notice("he") is not None,
        "nats": round(nats - alone, 5),
        "gain": round(nats / alone - 1, 4),
    }
    if own_spots and len(case.spots) <= FEW:
        own = fit_image_expert(case.all_counts, case.spots, case.native_pitch, image)
        told["own_evidence"] = round(own.fit.evidence, 2)
        told["own_used"] = own.informative and estimate_offset(own).trusted
    return told


def shifts(case: Case) -> list[dict[str, object]]:
    """Shift the image by half a pitch in eight directions; by how far the named shift is off, in pitches."""
    home = np.array(estimate_offset(case.expert(case.image)).offset) / case.layout.pitch
    rows: list[dict[str, object]] = []
    for angle in np.arange(8) * np.pi / 4:
        shift = 0.5 * np.array([np.cos(angle), np.sin(angle)])
        found = estimate_offset(case.expert(case.shifted((float(shift[0]), float(shift[1])))))
        named = np.array(found.offset) / case.layout.pitch
        rows.append(
            {
                "direction": round(float(np.degrees(angle))),
                "noticed": found.off,
                "error": round(float(np.hypot(*(named - shift))), 3),
                "error_from_home": round(float(np.hypot(*(named - home - shift))), 3),
                "used": found.trusted,
            }
        )
    return rows


def without_image(case: Case) -> tuple[np.ndarray, float]:
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
    parser.add_argument("--coarse", action="store_true", help="leave the slides' own spots out")
    parser.add_argument("--json", type=Path, help="also write every figure as JSON")
    chosen = parser.parse_args()
    paths = [p for p in sorted(chosen.slides.glob("*.h5ad")) if p.with_name(f"{p.stem}_he.jpg").exists()]
    cases = [coarser(Case(path, chosen.genes)) for path in paths if chosen.only in path.stem or "wrong" in chosen.what]
    rows: list[dict[str, object]] = []

    def tell(what: str, case: Case, row: dict[str, object]) -> None:
        rows.append({"what": what, "slide": case.name, **row})
        print(json.dumps(rows[-1]), flush=True)
        if chosen.json is not None:
            chosen.json.write_text(json.dumps(rows, indent=1))

    for case in (case for case in cases if chosen.only in case.name):
        if {"wrong", "spoilt"} & set(chosen.what):
            without, alone = without_image(case)
            tell("right", case, judge(case, case.image, without, alone, own_spots=not chosen.coarse))
        if "wrong" in chosen.what:
            for group, name, image in wrong_images(case, [other for other in cases if other is not case]):
                told = judge(case, image, without, alone, own_spots=not chosen.coarse)
                tell("wrong", case, {"group": group, "image": name, **told})
        if "spoilt" in chosen.what:
            for name, image in spoilt_images(case):
                tell("spoilt", case, {"image": name, **judge(case, image, without, alone, own_spots=False)})
        if "shifted" in chosen.what:
            for row in shifts(case):
                tell("shifted", case, row)
        if "small" in chosen.what:
            for n_spots in SMALL:
                part = coarser(Case(paths[[p.stem for p in paths].index(case.name)], chosen.genes, n_spots))
                tell("small", part, {"spots": part.layout.n_spots, **judge(part, part.image, *without_image(part))})


if __name__ == "__main__":
    main()
