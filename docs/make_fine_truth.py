"""Score the default method on fine truth: high-resolution slides as Visium would have measured them.

    python docs/make_fine_truth.py DATA [NAME ...] [--thinnings N]    writes docs/results/fine_truth.json

DATA is a folder with NAME.h5ad (square bins; obsm["spatial"] in micrometers, obsm["spatial_px"] in image pixels) and
one image NAME_*.jpg. Every count is assigned at random to one of two halves. The slide is made from one half: disks of
55 um on a hexagonal lattice. The other half is the truth, in pixels of whole bins. Scores are nats per count over the
uniform split inside each spot's cell; docs/results/fine_truth.md defines the columns.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
from PIL import Image
from scipy import sparse
from scipy.spatial import cKDTree

import napari_srast as srast

OUTPUT = Path(__file__).parent / "results" / "fine_truth.json"
DISK = 55.0  # um
N_GENES = 120  # most abundant, without mitochondrial and ribosomal genes
MIN_SPOT_COUNTS = 20
MIN_GENE_COUNTS = 100  # of the held-out half, for the fraction of genes below the uniform split


@dataclass(frozen=True, eq=False)
class Study:
    """Bins with counts, the lattice of the disks, and the image."""

    name: str
    counts: sparse.csr_matrix
    genes: np.ndarray
    points: np.ndarray
    pitch: float
    factor: int
    image: srast.SlideImage


def read_study(folder: Path, name: str) -> Study:
    table = anndata.read_h5ad(folder / f"{name}.h5ad")
    counts, genes = sparse.csr_matrix(table.X), np.array(table.var_names, dtype=str)
    order = np.argsort(-np.asarray(counts.sum(axis=0)).ravel())
    chosen = [i for i in order if not genes[i].startswith(("MT-", "RPL", "RPS"))][:N_GENES]
    points = np.asarray(table.obsm["spatial"], dtype=float)
    side = float(np.diff(np.unique(points[:, 0].round(3))).min())
    pitch = 96.0 if side == 8 else 100.0
    (path,) = folder.glob(f"{name}_*.jpg")
    pixels = np.asarray(Image.open(path))
    pixels = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels[None]
    pixel = float(np.median(points[:, 0] / np.asarray(table.obsm["spatial_px"])[:, 0]))
    channels = ("r", "g", "b") if len(pixels) == 3 else ("channel_0",)
    affine = np.diag([pixel, pixel, 1.0])
    image = srast.SlideImage(name=path.stem, levels=(pixels,), to_intrinsic=(affine,), channels=channels)
    return Study(name, counts[:, chosen], genes[chosen], points, pitch, int(pitch / (2 * side)), image)


def hexagons(extent: np.ndarray, pitch: float) -> np.ndarray:
    rows = np.arange(pitch / 2, extent[1] - 0.3 * pitch, pitch * np.sqrt(3) / 2)
    starts = [pitch / 2 + (pitch / 2 if i % 2 else 0.0) for i in range(len(rows))]
    lines = [np.arange(start, extent[0] - 0.3 * pitch, pitch) for start in starts]
    return np.concatenate([np.column_stack([x, np.full_like(x, y)]) for x, y in zip(lines, rows, strict=True)])


def score(ratios: np.ndarray, truth: np.ndarray, parent: np.ndarray, share: np.ndarray) -> dict[str, float]:
    n_pixels = np.bincount(parent)[parent][:, None]
    total = truth.sum(axis=0)
    gain = (truth * np.log(np.maximum(ratios * n_pixels, 1e-3))).sum(axis=0)
    pixel_totals = truth.sum(axis=1)
    ratio_of_totals = (ratios * share[parent]).sum(axis=1)
    totals = (pixel_totals * np.log(np.maximum(ratio_of_totals * n_pixels[:, 0], 1e-3))).sum() / pixel_totals.sum()
    nats = gain.sum() / total.sum()
    frequent = total >= MIN_GENE_COUNTS
    below = float((gain[frequent] < 0).mean())
    return {"nats": nats, "totals": totals, "composition": nats - totals, "genes_below_uniform": below}


def run(study: Study, seed: int) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(seed)
    half = study.counts.copy()
    half.data = rng.binomial(study.counts.data.astype(int), 0.5).astype(float)
    held_out = study.counts - half
    centers = hexagons(study.points.max(axis=0), study.pitch)
    distance, nearest = cKDTree(centers).query(study.points)
    inside = np.flatnonzero(distance <= DISK / 2)
    ones = np.ones(len(inside))
    spots = sparse.csr_matrix((ones, (nearest[inside], inside)), shape=(len(centers), len(study.points))) @ half
    kept = np.flatnonzero(np.asarray(spots.sum(axis=1)).ravel() >= MIN_SPOT_COUNTS)
    spots, centers = sparse.csr_matrix(spots[kept], dtype=np.float32), centers[kept]

    def upsample(image: srast.SlideImage | None, method: str) -> srast.UpsampleResult:
        slide = srast.Slide(
            counts=spots,
            genes=study.genes,
            spot_ids=np.array([f"s{i}" for i in range(len(centers))]),
            centers=centers,
            spot_diameter=DISK,
            unit="um",
            image=image,
        )
        return srast.upsample(slide, factor=study.factor, method=method, seed=0)

    results = {
        "image": upsample(study.image, "srast"),
        "counts alone": upsample(None, "srast"),
        "gp": upsample(None, "gp"),
    }
    raster = results["gp"].raster
    pixel = raster.locate(study.points)
    located = np.flatnonzero(pixel >= 0)
    to_pixels = sparse.csr_matrix(
        (np.ones(len(located)), (pixel[located], located)), shape=(raster.n_pixels, len(pixel))
    )
    truth = np.asarray((to_pixels @ held_out).todense())
    counts = spots.toarray().astype(float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
    n_pixels = np.bincount(raster.parent, minlength=len(counts))[raster.parent][:, None]
    scores = {}
    for name, result in results.items():
        of_spot = counts[raster.parent]
        ratios = np.where(of_spot > 0, result.counts.toarray() / np.maximum(of_spot, 1e-12), 1 / n_pixels)
        scores[name] = score(ratios, truth, raster.parent, share)
        weight = truth.sum(axis=0)
        stated = np.isfinite(result.skill)
        if name != "gp" and stated.any():
            scores[name]["stated"] = float(np.average(result.skill[stated], weights=weight[stated]))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--thinnings", type=int, default=3)
    options = parser.parse_args()
    names = options.names or sorted(path.stem for path in options.data.glob("*.h5ad"))
    table = {}
    for name in names:
        study = read_study(options.data, name)
        runs = [run(study, seed) for seed in range(options.thinnings)]
        table[name] = {
            method: {key: [round(float(run[method][key]), 4) for run in runs] for key in runs[0][method]}
            for method in runs[0]
        }
        print(name, json.dumps(table[name], indent=1), flush=True)
    OUTPUT.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
