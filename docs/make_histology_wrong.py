"""Run real slides with wrong images, and compare the counts with those of the run without an image.

    python docs/make_histology_wrong.py DATA [NAME ...] [--runs N] [--genes N] [--factor F] [--seed N]
                                        writes docs/results/histology_wrong.json and prints Markdown tables

DATA is a folder with slides/NAME.h5ad and NAME_he.jpg, as spots, and fine/NAME.h5ad with NAME_he.jpg or NAME_dapi.jpg,
whose bins are measured by disks of 55 um as for docs/make_fine_truth.py. Every slide gets 25 images that do not show
it, made from its own image and those of the other slides, and five mirror images, which are reported apart: a mirror
image can keep the outline and, of a symmetric section, its layers. Every image is weighed by the functions that a run
calls. The slide's own image, the first wrong ones (--runs) and all that would be used are also run: the counts of all
pixels must be those of the run without an image to the byte unless the image is used, and the warnings must agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_srast.api import upsample
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideImage
from napari_srast.evaluation.fine_slide import read_fine_slide
from napari_srast.evaluation.simulated_array import SimulatedArray, spot_membership, thin
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.histology import fit_image_expert
from napari_srast.histology.features import FeatureMap, extract_features
from napari_srast.histology.offset import estimate_offset
from napari_srast.io.convert.h5ad import read_h5ad
from napari_srast.io.slide_reader import read_slide

OUTPUT = Path(__file__).parent / "results" / "histology_wrong.json"
NAMES = (
    "visiumhd_human_kidney_a",
    "xenium_human_pancreas_a",
    "st_mouse_olfactorybulb_mob1",
    "st_human_breast_her2_c2",
    "st_mouse_olfactorybulb_mob3",
    "st_human_breast_her2_c4",
)
DISK, PITCH = 55.0, 100.0  # um, of the slides of fine bins
FINE_GENES = 120
MIN_COUNTS = 20
PIXELS_PER_PITCH = 48  # of the images
MARGIN = 2.0  # pitches around the spots
CLOSING = 2.0  # pitches: narrower gaps in the tissue are no outline
N_ANGLES = 4  # each turns the whole image, and the image inside the outline of the tissue
N_OTHERS = 5
NOISE_WIDTHS = (0.3, 1.0, 3.0, 8.0)  # pitches
SHUFFLED = (1.0, 3.0)  # pitches
SHIFTS = (3.0, 5.0, 8.0)  # pitches
MIRROR_ANGLES = (0.0, 36.0, 72.0, 108.0, 144.0)  # degrees


@dataclass(frozen=True, kw_only=True)
class Case:
    """A slide whose image is resampled around its spots.

    Parameters
    ----------
    slide
        The slide; its image has one level, along x and y of the spots.
    pitch
        Distance between neighboring spots.
    tissue
        True for the pixels of the image inside the outline of the tissue, without its holes.
    """

    name: str
    slide: Slide
    pitch: float
    tissue: np.ndarray

    @property
    def pixels(self) -> np.ndarray:
        """The image, shape (c, y, x)."""
        assert self.slide.image is not None
        return np.asarray(self.slide.image.levels[0])

    @property
    def glass(self) -> int:
        """Value of pixels outside the section: bright images are shown on a bright background."""
        return 255 if len(self.pixels) == 3 else 0

    def with_pixels(self, pixels: np.ndarray) -> SlideImage:
        """Return another image (c, y, x) at the place of the image."""
        assert self.slide.image is not None
        shown = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        return replace(self.slide.image, levels=(shown,))

    def turn(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn the image and its tissue by a (2, 2) matrix about the middle of the tissue; glass is elsewhere."""
        middle = np.argwhere(self.tissue).mean(axis=0)
        back = np.linalg.inv(matrix)[::-1, ::-1]  # acts on (y, x)
        offset = middle - back @ middle

        def warp(plane: np.ndarray, outside: float) -> np.ndarray:
            return np.asarray(ndimage.affine_transform(plane, back, offset, order=1, cval=outside))

        pixels = np.stack([warp(plane.astype(np.float32), self.glass) for plane in self.pixels])
        return pixels, warp(self.tissue.astype(np.float32), 0.0) > 0.5


def read_case(data: Path, name: str) -> Case:
    """Read a slide, by disks from fine bins or as it is."""
    if (data / "fine" / f"{name}.h5ad").exists():
        (image_path,) = (data / "fine").glob(f"{name}_*.jpg")
        fine = read_fine_slide(data / "fine" / f"{name}.h5ad", image=image_path, genes=FINE_GENES)
        side = 2 * fine.bin_side
        array = SimulatedArray(pitch=PITCH // side * side, lattice="hex", spot_diameter=DISK)
        centers = array.centers(fine.points.max(axis=0))
        counts = (spot_membership(array, centers, fine.points) @ thin(fine.counts, 0)[0]).tocsr()
        kept = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() >= MIN_COUNTS)
        slide = Slide(
            counts=counts[kept].astype(np.float32),
            genes=fine.genes,
            spot_ids=np.array([f"s{i}" for i in range(len(kept))]),
            centers=centers[kept],
            spot_diameter=DISK,
            spot_shape="circle",
            unit=fine.unit,
            image=fine.image,
        )
    else:
        path = data / "slides" / f"{name}.h5ad"
        image_path = path.with_name(f"{name}_he.jpg")
        slide = read_slide(read_h5ad(path, image=image_path, spot_diameter=None, pixel_size=None), image="auto")
    assert slide.image is not None
    pitch = detect_lattice(slide.centers, slide.spot_diameter).pitch
    image, centers = resample(slide.image, slide.centers, pitch), slide.centers
    features = extract_features(image, centers, pitch)
    return Case(name=name, slide=replace(slide, image=image), pitch=pitch, tissue=outline_mask(features, image, pitch))


def resample(image: SlideImage, centers: np.ndarray, pitch: float) -> SlideImage:
    """Resample an image along x and y of the spots, with a margin; outside it, its edge is repeated."""
    pixels, affine = np.asarray(image.levels[0]), image.to_intrinsic[0]
    native = float(np.sqrt(abs(np.linalg.det(affine[:2, :2]))))
    side = max(pitch / PIXELS_PER_PITCH, native)
    low, high = centers.min(axis=0) - MARGIN * pitch, centers.max(axis=0) + MARGIN * pitch
    columns, rows = np.ceil((high - low) / side).astype(int)
    to_spots = np.array([[side, 0.0, low[0]], [0.0, side, low[1]], [0.0, 0.0, 1.0]])
    x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    points = apply_affine(np.linalg.inv(affine) @ to_spots, np.column_stack([x.ravel(), y.ravel()])) - 0.5
    blur = side / native / 2 if side > 1.5 * native else 0.0
    smooth = [ndimage.gaussian_filter(plane.astype(np.float32), blur) for plane in pixels]
    planes = [ndimage.map_coordinates(plane, points.T[::-1], order=1, mode="nearest") for plane in smooth]
    shown = np.clip(np.rint(np.stack(planes).reshape(len(pixels), rows, columns)), 0, 255).astype(np.uint8)
    return replace(image, levels=(shown,), to_intrinsic=(to_spots,))


def outline_mask(features: FeatureMap, image: SlideImage, pitch: float) -> np.ndarray:
    """Return the pixels (y, x) inside the outline of the tissue: gaps of up to four pitches and holes are inside."""
    rows, columns = image.levels[0].shape[1:]
    x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    points = apply_affine(image.to_intrinsic[0], np.column_stack([x.ravel(), y.ravel()]))
    tissue = features.tissue_fraction(points, 1e-9, n_points=1).reshape(rows, columns)
    reach = round(CLOSING * pitch / image.to_intrinsic[0][0, 0])
    tissue = np.pad(ndimage.gaussian_filter(tissue, 0.1 * reach, mode="nearest") > 0.3, 2 * reach, mode="edge")
    widened = ndimage.distance_transform_edt(~tissue) <= reach
    closed = ndimage.distance_transform_edt(widened) > reach
    return np.asarray(ndimage.binary_fill_holes(closed))[2 * reach : -2 * reach, 2 * reach : -2 * reach]


def rotation(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def turn_inside_outline(case: Case, degrees: float) -> np.ndarray:
    """Turn the image, but keep its outline: tissue of further angles fills what the turned tissue leaves empty."""
    inside = case.pixels.astype(np.float32)
    empty = case.tissue.copy()
    for more in (0.0, 90.0, 180.0, 270.0, 45.0, 135.0, 225.0, 315.0):
        pixels, tissue = case.turn(rotation(degrees + more))
        filled = empty & tissue
        inside[:, filled] = pixels[:, filled]
        empty &= ~tissue
    inside[:, empty] = np.median(case.pixels[:, case.tissue], axis=1)[:, None]
    return inside


def wrong_images(case: Case, others: list[Case], rng: np.random.Generator) -> Iterator[tuple[str, str, SlideImage]]:
    """Yield images that do not show the slide: group, name, image."""
    pixels = case.pixels
    size = pixels.shape[1:]
    per_pitch = case.pitch / float(case.slide.image.to_intrinsic[0][0, 0])
    for degrees in rng.uniform(30, 330, N_ANGLES):
        yield "rotated", f"by {degrees:.0f} degrees", case.with_pixels(case.turn(rotation(degrees))[0])
        yield (
            "rotated inside the outline",
            f"by {degrees:.0f} degrees",
            case.with_pixels(turn_inside_outline(case, degrees)),
        )
    for other in others[:N_OTHERS]:
        zoom = (1, *(np.array(size) / other.pixels.shape[1:]))
        resized = ndimage.zoom(other.pixels.astype(np.float32), zoom, order=1)[:, : size[0], : size[1]]
        yield "another slide's", other.name, case.with_pixels(resized)
    sorted_colors = pixels.reshape(len(pixels), -1)[:, np.argsort(pixels.sum(axis=0, dtype=int), axis=None)]

    def colored(field: np.ndarray) -> SlideImage:
        shown = np.empty_like(sorted_colors)
        shown[:, np.argsort(field, axis=None, kind="stable")] = sorted_colors  # the image's own colors, dark to light
        return case.with_pixels(shown.reshape(pixels.shape))

    for width in NOISE_WIDTHS:
        field = ndimage.gaussian_filter(rng.normal(size=size), width * per_pitch, mode="wrap")
        yield "smooth noise", f"{width:g} pitches", colored(field)
    y, x = np.mgrid[: size[0], : size[1]] / per_pitch
    seeds = rng.uniform(0, 1, (max(4, int(np.prod(size) / per_pitch**2 / 4)), 2)) * size
    _, nearest = cKDTree(seeds).query(np.argwhere(np.ones(size, dtype=bool)))
    angle = rng.uniform(0, np.pi)
    yield "texture", "white noise", colored(rng.normal(size=size))
    yield "texture", "stripes of 3 pitches", colored(np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / 3))
    yield "texture", "patches of 2 pitches", colored(rng.normal(size=len(seeds))[nearest].reshape(size))
    for side in SHUFFLED:
        yield (
            "shuffled tiles",
            f"{side:g} pitches",
            case.with_pixels(shuffle_tiles(pixels, round(side * per_pitch), rng)),
        )
    for shift in SHIFTS:
        angle = rng.uniform(0, 2 * np.pi)
        step = (round(shift * per_pitch * np.sin(angle)), round(shift * per_pitch * np.cos(angle)))
        yield "shifted", f"by {shift:g} pitches", case.with_pixels(np.roll(pixels, step, axis=(1, 2)))


def mirror_images(case: Case) -> Iterator[tuple[str, str, SlideImage]]:
    """Yield mirror images about axes through the middle of the tissue."""
    for degrees in MIRROR_ANGLES:
        matrix = rotation(degrees) @ np.diag([1.0, -1.0]) @ rotation(-degrees)
        yield "mirrored", f"axis at {degrees:.0f} degrees", case.with_pixels(case.turn(matrix)[0])


def shuffle_tiles(pixels: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Shuffle square tiles; what is left at the right and at the bottom stays."""
    rows, columns = (n // side for n in pixels.shape[1:])
    part = pixels[:, : rows * side, : columns * side]
    tiles = part.reshape(len(pixels), rows, side, columns, side).transpose(1, 3, 0, 2, 4)
    tiles = rng.permutation(tiles.reshape(rows * columns, len(pixels), side, side))
    shuffled = pixels.copy()
    tiles = tiles.reshape(rows, columns, len(pixels), side, side).transpose(2, 0, 3, 1, 4)
    shuffled[:, : rows * side, : columns * side] = tiles.reshape(part.shape)
    return shuffled


def same_counts(one: UpsampleResult, other: UpsampleResult) -> bool:
    """Return whether two runs have the same counts in all pixels, to the byte."""
    a, b = one.counts, other.counts
    return a.shape == b.shape and all(
        getattr(a, part).tobytes() == getattr(b, part).tobytes() for part in ("data", "indices", "indptr")
    )


def run_case(case: Case, others: list[Case], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Weigh all images of a slide as a run does, and run the first ones, and those that would be used."""
    order = np.argsort(-np.asarray(case.slide.counts.sum(axis=0)).ravel(), kind="stable")
    genes = [str(gene) for gene in case.slide.genes[order[: options.genes]]]

    def run(image: SlideImage | None) -> UpsampleResult:
        slide = replace(case.slide, image=image)
        return upsample(slide, genes=genes, factor=options.factor, expression="none")

    without = run(None)
    rng = np.random.default_rng(options.seed)
    images = [("own", "own", case.slide.image), *wrong_images(case, others, rng), *mirror_images(case)]
    for i, (group, name, image) in enumerate(images):
        expert = fit_image_expert(case.slide.counts, case.slide.centers, case.pitch, image)
        offset = estimate_offset(expert) if expert.informative else None  # otherwise a run warns and does not use it
        row: dict[str, Any] = {
            "slide": case.name,
            "group": group,
            "image": name,
            "evidence": round(expert.fit.evidence, 2),
            "used": offset is not None and offset.usable,
            "warned": offset is None or offset.warning(image.name) is not None,
        }
        if row["used"] or i <= options.runs:
            result = run(image)
            row["same_counts"] = same_counts(result, without)
            row["warned_in_run"] = any(image.name in notice for notice in result.provenance.get("notices", []))
            assert row["same_counts"] == (not row["used"]), f"{case.name}, {name}: the run decided otherwise"
            assert row["warned_in_run"] == row["warned"], f"{case.name}, {name}: the run warned otherwise"
        yield row


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return a table with a line for each slide, and one for each group of images."""
    lines = ["| slide | own image used | evidence | wrong: used | warned | largest evidence | mirrors: used | runs |"]
    lines.append("|---" * 8 + "|")

    def share(part: list[dict[str, Any]], key: str) -> str:
        return f"{sum(bool(row[key]) for row in part)} of {len(part)}"

    for name in dict.fromkeys(row["slide"] for row in rows):
        of_slide = [row for row in rows if row["slide"] == name]
        (own,) = (row for row in of_slide if row["group"] == "own")
        mirrors = [row for row in of_slide if row["group"] == "mirrored"]
        wrong = [row for row in of_slide if row["group"] not in ("own", "mirrored")]
        largest = max((row["evidence"] for row in wrong), default=0.0)
        lines.append(
            f"| {name} | {'yes' if own['used'] else 'no'} | {own['evidence']:.0f} | {share(wrong, 'used')} | "
            f"{share(wrong, 'warned')} | {largest:.1f} | {share(mirrors, 'used')} | "
            f"{sum('same_counts' in row for row in wrong)} |"
        )
    lines += ["", "| images | used | warned | largest evidence |", "|---|---|---|---|"]
    for group in dict.fromkeys(row["group"] for row in rows):
        part = [row for row in rows if row["group"] == group]
        largest = max(row["evidence"] for row in part)
        lines.append(f"| {group} | {share(part, 'used')} | {share(part, 'warned')} | {largest:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*", help="slides to run; the others give images only")
    parser.add_argument("--genes", type=int, default=5, help="of the result; the image is weighed by all genes")
    parser.add_argument("--runs", type=int, default=3, help="wrong images of each slide that are also run")
    parser.add_argument("--factor", type=float, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the wrong images")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    cases = [read_case(options.data, name) for name in dict.fromkeys([*NAMES, *options.names])]
    rows = []
    for case in cases:
        if options.names and case.name not in options.names:
            continue
        for row in run_case(case, [other for other in cases if other is not case], options):
            rows.append(row)
            sys.stderr.write(json.dumps(row) + "\n")
            sys.stderr.flush()
            options.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(markdown(rows) + "\n")


if __name__ == "__main__":
    main()
