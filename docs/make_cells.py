"""Score counts of nuclei on fine truth: transcripts as Visium would have measured them, and nuclei from the DAPI image.

    python docs/make_cells.py DATA [NAME] [--genes N] [--thinnings N]

writes docs/results/cells.json and the table of docs/results/cells.md.

DATA is a folder as for docs/make_fine_truth.py, with NAME_transcripts.parquet (x_um, y_um, gene). Every transcript is
assigned at random to one of two halves. The slide is made from one half, by disks of 55 um; the other half is the
truth: its transcripts in each nucleus. docs/results/cells.md defines the scores.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import anndata
import make_quotes
import numpy as np
import pandas as pd
from scipy import ndimage, sparse
from scipy.optimize import nnls
from scipy.spatial import cKDTree
from skimage import feature, filters, measure, segmentation

import napari_srast as srast
from napari_srast.core.cells import CellLabels
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.evaluation.fine_slide import FineSlide, read_fine_slide
from napari_srast.evaluation.simulated_array import SimulatedArray
from napari_srast.geometry.affine import apply_affine
from napari_srast.io.cell_reader import encode_labels
from napari_srast.io.transforms import fit_affine

NAME = "xenium_human_pancreas_a"
OUTPUT = Path(__file__).parent / "results"
DISK, PITCH, PIXEL = 55.0, 100.0, 10.0  # um
MIN_COUNTS = 20  # in a spot
MIN_CELL_COUNTS = 10  # held out, in a nucleus whose composition is scored
FLOOR = 1e-3  # of the uniform map, mixed into every map
SMALLEST, LARGEST = 12.0, 400.0  # um^2, area of a nucleus


def segment(image: np.ndarray, side: float) -> np.ndarray:
    """Return labels of nuclei: a local threshold, then a watershed on distances; ``side`` of a pixel in um."""
    smooth = filters.gaussian(image.astype(float), 0.8 / side, preserve_range=True)
    local = filters.threshold_local(smooth, 2 * round(25 / side) + 1)
    mask = (smooth > local) & (smooth > 0.6 * filters.threshold_otsu(smooth))
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
    distance = filters.gaussian(ndimage.distance_transform_edt(mask), 1.0)
    peaks = feature.peak_local_max(
        distance, min_distance=max(1, round(3 / side)), labels=measure.label(mask), exclude_border=False
    )
    markers = np.zeros(mask.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = segmentation.watershed(-distance, markers, mask=mask)
    area = np.bincount(labels.ravel()) * side**2
    labels[(area < SMALLEST)[labels] | (area > LARGEST)[labels]] = 0
    return labels


def transcripts(folder: Path, name: str, fine: FineSlide) -> tuple[np.ndarray, np.ndarray]:
    """Return positions in the frame of the slide, shape (n, 2), and columns of genes, of the genes of the slide."""
    table = pd.read_parquet(folder / f"{name}_transcripts.parquet")
    column = pd.Series(np.arange(len(fine.genes)), index=fine.genes)
    table = table[table["gene"].isin(column.index)]
    spatial = np.asarray(anndata.read_h5ad(folder / f"{name}.h5ad", backed="r").obsm["spatial"])
    to_frame, residual = fit_affine(spatial, fine.points)
    if residual > 1e-3:
        raise SystemExit(f"The bins of {name} are not in the order of its file.")
    points = apply_affine(to_frame, table[["x_um", "y_um"]].to_numpy(dtype=float))
    return points, column[table["gene"].astype(str)].to_numpy()


def count_matrix(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Count pairs; negative rows are left out."""
    used = rows >= 0
    return sparse.csr_matrix((np.ones(used.sum()), (rows[used], columns[used])), shape=shape)


def measured_slide(fine: FineSlide, points: np.ndarray, columns: np.ndarray) -> Slide:
    """Return the slide that disks measure."""
    centers = SimulatedArray(pitch=PITCH, lattice="hex", spot_diameter=DISK).centers(fine.points.max(axis=0))
    distance, nearest = cKDTree(centers).query(points)
    counts = count_matrix(np.where(distance <= DISK / 2, nearest, -1), columns, (len(centers), len(fine.genes)))
    kept = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() >= MIN_COUNTS)
    return Slide(
        counts=sparse.csr_matrix(counts[kept], dtype=np.float32),
        genes=fine.genes.astype(object),
        spot_ids=np.array([f"s{i}" for i in range(len(kept))], dtype=object),
        centers=centers[kept],
        spot_diameter=DISK,
        unit=fine.unit,
        image=fine.image,
    )


def enrichment(slide: Slide, nuclear: np.ndarray) -> float:
    """Return how much denser counts are in nuclei than outside, from the spots: counts on nuclear area in the disks.

    Parameters
    ----------
    slide
        The slide.
    nuclear
        Fraction of each disk that is nuclear, shape (N,).
    """
    total = np.asarray(slide.counts.sum(axis=1)).ravel()
    (inside, outside), _ = nnls(np.column_stack([nuclear, 1 - nuclear]), total)
    return float(np.clip(inside / max(outside, 1e-9), 0.2, 20))


def split(weights: np.ndarray, parent: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Divide the counts of spots among pixels in proportion to weights, shape (Q, G)."""
    total = np.zeros(counts.shape)
    np.add.at(total, parent, np.broadcast_to(weights, (len(parent), counts.shape[1])))
    share = np.divide(weights, total[parent], out=np.zeros((len(parent), counts.shape[1])), where=total[parent] > 0)
    return share * counts[parent]


def share(maps: np.ndarray, shares: sparse.csr_matrix, spots: sparse.csr_matrix, ratio: float) -> np.ndarray:
    """Share counts among cells and what is outside, at a density lower by ``ratio``; rows: cells, then spots."""
    covered = np.asarray(shares.sum(axis=0)).ravel()
    scale = 1 / (1 + (ratio - 1) * covered)
    inside = ratio * (shares @ (scale[:, None] * maps))
    return np.concatenate([inside, spots @ (((1 - covered) * scale)[:, None] * maps)])


def scores(found: np.ndarray, uniform: np.ndarray, truth: np.ndarray, n_cells: int) -> dict[str, float]:
    """Return the scores of a map of cells and outside; docs/results/cells.md defines them."""

    def nats(rows: slice) -> float:
        p, u, t = found[rows], uniform[rows], truth[rows]
        p, u = p / np.maximum(p.sum(axis=0), 1e-12), u / np.maximum(u.sum(axis=0), 1e-12)
        used = (t > 0) & (u > 0)
        return float((t[used] * np.log(((1 - FLOOR) * p[used] + FLOOR * u[used]) / u[used])).sum() / t[used].sum())

    def log(values: np.ndarray) -> np.ndarray:
        total = values.sum(axis=1, keepdims=True)
        return np.log1p(1000 * np.divide(values, total, out=np.zeros_like(values), where=total > 0))

    p, t = found[:n_cells], truth[:n_cells]
    counted = t.sum(axis=1) >= MIN_CELL_COUNTS
    a, b = log(p[counted]), log(t[counted])
    centered = [x - x.mean(axis=0) for x in (a, b)]
    genes = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True) if x.std() > 0 and y.std() > 0]
    per_cell = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True) if x.std() > 0 and y.std() > 0]
    deviation = [np.corrcoef(x, y)[0, 1] for x, y in zip(*centered, strict=True) if x.std() > 0 and y.std() > 0]
    return {
        "nats_cells_and_outside": nats(slice(None)),
        "nats_cells": nats(slice(0, n_cells)),
        "cell_correlation": float(np.mean(per_cell)),
        "cell_correlation_centered": float(np.mean(deviation)),
        "gene_correlation": float(np.mean(genes)),
        "total_correlation": float(np.corrcoef(p.sum(axis=1), t.sum(axis=1))[0, 1]),
        "fraction_in_cells": float(p.sum() / found.sum()),
    }


def evaluate(folder: Path, name: str, n_genes: int, seed: int) -> dict[str, object]:
    """Return the scores of every rule for one thinning."""
    fine = read_fine_slide(folder / f"{name}.h5ad", image=next(iter(folder.glob(f"{name}_dapi.jpg"))), genes=n_genes)
    points, columns = transcripts(folder, name, fine)
    first = np.random.default_rng(seed).random(len(points)) < 0.5
    slide = measured_slide(fine, points[first], columns[first])
    image, to_frame = np.asarray(fine.image.levels[0])[0], fine.image.to_intrinsic[0]
    labels = segment(image, float(np.sqrt(abs(np.linalg.det(to_frame[:2, :2])))))
    nuclei: CellLabels = encode_labels(labels, "nuclei", to_frame)
    result = srast.upsample(slide, settings=UpsampleSettings(factor=PITCH / PIXEL, seed=0))
    found = srast.cells(result, nuclei)
    raster, parent = result.raster, result.raster.parent
    spots = raster.membership[raster.spots]

    place = np.floor(apply_affine(np.linalg.inv(to_frame), points)).astype(int)
    inside = ((place >= 0) & (place < labels.shape[::-1])).all(axis=1)
    label = np.where(inside, labels[tuple(np.clip(place, 0, np.array(labels.shape[::-1]) - 1).T[::-1])], 0)
    pixel = raster.locate(points)
    index = np.full(labels.max() + 1, -1)
    index[found.cells.ids] = np.arange(len(found.cells.ids))
    row = np.where(label > 0, index[label], len(found.cells.ids) + np.searchsorted(raster.spots, parent[pixel]))
    row[pixel < 0] = -1
    n_cells, n_rows = len(found.cells.ids), len(found.cells.ids) + len(raster.spots)
    truth = count_matrix(row[~first], columns[~first], (n_rows, len(fine.genes))).toarray()

    counts = slide.counts.toarray().astype(float)
    covered = np.asarray(found.shares.sum(axis=0)).ravel()
    yy, xx = np.mgrid[: labels.shape[0], : labels.shape[1]] + 0.5
    middle = apply_affine(to_frame, np.column_stack([xx.ravel(), yy.ravel()]))
    distance, nearest = cKDTree(slide.centers).query(middle, distance_upper_bound=DISK / 2)
    measured = np.isfinite(distance)
    nuclear = np.bincount(nearest[measured], labels.ravel()[measured] > 0, slide.n_spots)
    ratio = enrichment(slide, nuclear / np.bincount(nearest[measured], minlength=slide.n_spots))
    area = np.append(found.obs["area"], 0)[:n_cells]
    in_cells = truth[:n_cells].sum() / (area * found.obs["covered"]).sum()
    true_ratio = in_cells / (truth[n_cells:].sum() / ((1 - covered).sum() * raster.pixel_size**2))

    ones = np.ones((raster.n_pixels, 1))
    maps: Mapping[str, tuple[np.ndarray, float]] = {
        "uniform, by area": (split(ones, parent, counts), 1.0),
        "uniform, by nuclear area": (split(1 + (ratio - 1) * covered[:, None], parent, counts), ratio),
        "counts (X), by area": (result.counts.toarray().astype(float), 1.0),
        "counts (X), by nuclear area": (result.counts.toarray().astype(float), ratio),
        "counts (X), by true nuclear density": (result.counts.toarray().astype(float), true_ratio),
        "expression within spots, by area": (split(result.expression.toarray(), parent, counts), 1.0),
        "expression, not conserved, by area": (result.expression.toarray().astype(float), 1.0),
    }
    shared = {rule: share(values, found.shares, spots, one) for rule, (values, one) in maps.items()}
    uniform = shared["uniform, by area"]
    return {
        "n_spots": slide.n_spots,
        "n_pixels": raster.n_pixels,
        "n_genes": len(fine.genes),
        "n_cells": n_cells,
        "n_scored_cells": int((truth[:n_cells].sum(axis=1) >= MIN_CELL_COUNTS).sum()),
        "median_nucleus_um2": float(np.median(area)),
        "cells_sharing_spots": float(found.obs["n_sharing"].median()),
        "true_fraction_in_cells": float(truth[:n_cells].sum() / truth.sum()),
        "nuclear_density_ratio": {"from spots": ratio, "true": float(true_ratio)},
        "rules": {rule: scores(values, uniform, truth, n_cells) for rule, values in shared.items()},
    }


def markdown(thinnings: list[dict]) -> str:
    """Return the table of the scores, means of the thinnings."""
    names = list(next(iter(thinnings[0]["rules"].values())))
    lines = ["| rule | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for rule in thinnings[0]["rules"]:
        cells = [f"{np.mean([one['rules'][rule][name] for one in thinnings]):.4f}" for name in names]
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("name", nargs="?", default=NAME)
    parser.add_argument("--genes", type=int, default=120)
    parser.add_argument("--thinnings", type=int, default=3)
    options = parser.parse_args()
    found: list[dict] = []
    for seed in range(options.thinnings):
        found.append(evaluate(options.data, options.name, options.genes, seed))
        (OUTPUT / "cells.json").write_text(json.dumps({options.name: found}, indent=1) + "\n", encoding="utf-8")
        page = (OUTPUT / "cells.md").read_text(encoding="utf-8")
        page = re.sub(r"\| rule \|.*?\n\n", markdown(found) + "\n", page, flags=re.DOTALL)
        (OUTPUT / "cells.md").write_text(page, encoding="utf-8")
        sys.stdout.write(
            json.dumps({k: v for k, v in found[-1].items() if k != "rules"}) + "\n" + markdown(found) + "\n"
        )
        sys.stdout.flush()
    make_quotes.update()


if __name__ == "__main__":
    main()
