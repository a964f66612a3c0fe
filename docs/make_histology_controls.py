"""Try images that must earn nothing, and images that are shifted, on real slides.

``python docs/make_histology_controls.py SLIDES [--only NAME] [--json FILE]``, where SLIDES is as for make_histology.py.
Prints the tables "Wrong images" and "Shifted images" of results/histology.md. Every image is judged twice: on the slide
coarsened once, where its gain can be scored, and on the slide's own spots, as a user would have it.
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

from napari_srast.histology import fit_image_expert
from napari_srast.histology.registration import check_registration
from napari_srast.interpolation import Denoiser, Interpolator
from napari_srast.slide import SlideImage

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


def wrong_images(case: Case, others: list[Case]) -> Iterator[tuple[str, str, SlideImage]]:
    """Give images that have nothing to do with the counts: group, name, image."""
    pixels = case.image.levels[0]
    for name, turn in TURNS.items():
        matrix = np.eye(3)
        matrix[:2, :2] = turn
        yield "turned or mirrored", name, case.moved(matrix)
    for other in others:
        affine = laid_on(other, case)
        yield "another slide's", other.name, replace(case.image, levels=other.image.levels, to_intrinsic=(affine,))
    for name, shift in FAR.items():
        yield "shifted by 3 pitches", name, case.shifted(shift)
    rng = np.random.default_rng(0)
    size, side = pixels.shape[1:], case.layout.pitch / np.sqrt(abs(np.linalg.det(case.image.to_intrinsic[0][:2, :2])))

    def drawn(values: np.ndarray) -> SlideImage:
        return replace(case.image, levels=(np.clip(values, 0, 255).astype(np.uint8),))

    yield "noise", "uniform, by channel", drawn(rng.integers(0, 256, pixels.shape))
    yield "noise", "normal, grey", drawn(np.repeat(rng.normal(200, 30, (1, *size)), 3, axis=0))
    yield "noise", "sparse dark dots", drawn(np.where(rng.random((1, *size)) < 0.02, 60, 235).repeat(3, axis=0))
    levels = np.sort(pixels.reshape(3, -1), axis=1)
    for width in TEXTURES:
        field = ndimage.gaussian_filter(rng.normal(size=size), width * side)
        rank = np.argsort(np.argsort(field, axis=None))  # the right image's own colours, from light to dark
        yield "texture", f"{width} pitches", drawn(levels[:, rank].reshape(pixels.shape))
    yield "own tiles, shuffled", "tiles of a pitch", drawn(_shuffled(pixels, max(2, round(side)), rng))


def _shuffled(pixels: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Put square tiles of an image in another order."""
    rows, columns = (n // side for n in pixels.shape[1:])
    tiles = pixels[:, : rows * side, : columns * side].reshape(3, rows, side, columns, side).transpose(1, 3, 0, 2, 4)
    tiles = rng.permutation(tiles.reshape(rows * columns, 3, side, side)).reshape(rows, columns, 3, side, side)
    whole = pixels.copy()
    whole[:, : rows * side, : columns * side] = tiles.transpose(2, 0, 3, 1, 4).reshape(3, rows * side, columns * side)
    return whole


def judge(case: Case, image: SlideImage, without: np.ndarray, alone: float) -> dict[str, object]:
    """Judge one image on the coarse slide, with its gain over the result without it, and on the slide's own spots."""
    expert = case.expert(image)
    found = check_registration(expert)
    nats = alone
    if found.trusted:
        local, slopes = expert.on(case.layout), expert.slopes(case.low)
        nats = case.score(np.exp(local.added_to(np.log(np.maximum(without, 1e-9)), slopes, case.layout)))[0]
    own = fit_image_expert(case.all_counts, case.spots, case.native_pitch, image)
    return {
        "evidence": round(found.evidence, 2),
        "best": round(found.best, 2),
        "used": found.trusted,
        "notice": found.notice("he") is not None,
        "gain": round(nats / alone - 1, 4),
        "own_evidence": round(own.fit.evidence, 2),
        "own_used": own.informative and check_registration(own).trusted,
    }


def shifts(case: Case) -> list[dict[str, object]]:
    """Shift the image by half a pitch in eight directions; by how far the named shift is off, in pitches."""
    home = np.array(check_registration(case.expert(case.image)).offset) / case.layout.pitch
    rows: list[dict[str, object]] = []
    for angle in np.arange(8) * np.pi / 4:
        shift = 0.5 * np.array([np.cos(angle), np.sin(angle)])
        found = check_registration(case.expert(case.shifted((float(shift[0]), float(shift[1])))))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path)
    parser.add_argument("--genes", type=int, default=600)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--what", choices=("all", "wrong", "shifted"), default="all")
    chosen = parser.parse_args()
    paths = [p for p in sorted(chosen.slides.glob("*.h5ad")) if p.with_name(f"{p.stem}_he.jpg").exists()]
    cases = [Case(path, chosen.genes) for path in paths]
    rows = []
    for case in cases:
        if chosen.only not in case.name:
            continue
        smooth = Denoiser(case.counts, case.layout.spots, case.layout.pitch).fields(case.genes)
        without = Interpolator(case.layout).ratios("gp", smooth)
        alone = case.score(without)[0]
        row: dict[str, object] = {"name": case.name, "right": judge(case, case.image, without, alone)}
        if chosen.what != "shifted":
            row["wrong"] = [
                {"group": group, "image": name, **judge(case, image, without, alone)}
                for group, name, image in wrong_images(case, [other for other in cases if other is not case])
            ]
        if chosen.what != "wrong":
            row["shifted"] = shifts(case)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if chosen.json is not None:
            chosen.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
