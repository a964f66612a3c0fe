"""Compare domains with clusters of the true bins: a slide of fine bins as Visium would have measured it.

    python docs/make_domains.py DATA [NAME] [--genes N] [--thinning I] [--seeds N] [--store STORE.zarr]

prints the Markdown tables of docs/analysis.md. DATA is a folder as for docs/make_fine_truth.py, which describes the
slide: one half of the counts measured by disks of 55 um, and the other half as truth, in pixels of 2 x 2 bins. STORE
keeps the upsampled slide for the next call. Each row is also written to standard error once it is measured. The extra
napari-srast[analysis] is required.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.stats import rankdata
from sklearn.metrics import adjusted_rand_score

import napari_srast as srast
from napari_srast.analysis.clustering import embed, find_partition, nearby_pixels, neighbor_graph, partition
from napari_srast.analysis.expression_scaling import log_normalize
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.evaluation.exact_process import ExactProcess, shrink_counts
from napari_srast.evaluation.fine_slide import FineSlide, read_fine_slide
from napari_srast.evaluation.held_out import split
from napari_srast.evaluation.simulated_array import SimulatedArray, spot_membership, thin, truth_weights

NAME = "visiumhd_human_kidney_a"
DISK = 55.0  # um
PITCH = 100.0  # um, rounded to whole pixels
MIN_COUNTS = 20  # in a spot
BINS_PER_PIXEL = 2  # along one side
NEAR = 1.2  # pitches: neighboring spots
STRUCTURES = {
    "podocytes": ("NPHS2", "PODXL"),
    "proximal tubules": ("LRP2", "CUBN"),
    "thick limbs": ("UMOD",),
    "distal tubules": ("SLC12A3",),
    "collecting ducts": ("AQP2",),
}


def measure(slide: FineSlide, array: SimulatedArray, half: sparse.csr_matrix) -> Slide:
    """Return the slide that the array makes of one half of the counts."""
    centers = array.centers(slide.points.max(axis=0))
    counts = sparse.csr_matrix(spot_membership(array, centers, slide.points) @ half)
    kept = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() >= MIN_COUNTS)
    return Slide(
        counts=sparse.csr_matrix(counts[kept], dtype=np.float32),
        genes=slide.genes,
        spot_ids=np.array([f"s{i}" for i in range(len(kept))]),
        centers=centers[kept],
        spot_diameter=DISK,
        spot_shape="circle",
        unit=slide.unit,
        image=slide.image,
    )


def whole_spots(labels: np.ndarray, parent: np.ndarray) -> float:
    """Return the fraction of spots whose pixels are in one cluster."""
    pairs = np.unique(np.column_stack([parent, labels]), axis=0)
    return float((np.unique(pairs[:, 0], return_counts=True)[1] == 1).mean())


def best_auroc(labels: np.ndarray, positive: np.ndarray) -> float:
    """Return the largest AUROC of membership in one cluster, over all clusters, for pixels with counts."""
    values = [rankdata(labels == one)[positive].mean() for one in np.unique(labels)]
    n_positive = positive.sum()
    return float((max(values) - (n_positive + 1) / 2) / (~positive).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("name", nargs="?", default=NAME)
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--thinning", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()

    images = sorted(options.data.glob(f"{options.name}_*.jpg"))
    slide = read_fine_slide(
        options.data / f"{options.name}.h5ad", image=images[0] if images else None, genes=options.genes
    )
    pixel = BINS_PER_PIXEL * slide.bin_side
    factor = int(PITCH // pixel)
    array = SimulatedArray(pitch=factor * pixel, lattice="hex", spot_diameter=DISK)
    half, held_out = thin(slide.counts, options.thinning)
    measured = measure(slide, array, half)
    if options.store is not None and options.store.exists():
        result = srast.read_result(options.store)
    else:
        result = srast.upsample(measured, settings=UpsampleSettings(factor=factor))
        if options.store is not None:
            result.write(options.store, include_image=False, include_histology=False)
    raster = result.raster
    parent = raster.parent
    if not np.array_equal(result.slide.counts.sum(axis=0), measured.counts.sum(axis=0)):
        raise SystemExit(f"{options.store} is of another slide; remove it.")
    true = np.asarray((truth_weights(raster, slide.points, slide.bin_side) @ held_out).todense())
    nearby = nearby_pixels(raster)

    counts = measured.counts.toarray().astype(float)
    process = ExactProcess(measured.centers, counts, array.pitch)
    gp = split(process.at(raster.centers), parent) * counts[parent]
    posterior = split(gp, parent) * shrink_counts(process.left_out(), counts)[parent]

    graphs = {
        "domains": (result.expression.toarray(), nearby),
        "conserved counts (X)": (result.counts.toarray(), nearby),
        "gp maps": (gp, nearby),
        "gp maps, posterior": (posterior, nearby),
        "spots": (counts, cKDTree(measured.centers).query_pairs(NEAR * array.pitch, output_type="ndarray")),
    }
    truth_graph = neighbor_graph(embed(log_normalize(true)), nearby)
    truth = partition(truth_graph, 1.0)
    target = truth.n_clusters
    write(f"{options.name}: {measured.n_spots} spots, {raster.n_pixels} pixels, {len(slide.genes)} genes.\n")
    columns = ["spots in one cluster", "ARI", "ARI, three seeds", "clusters", f"clusters over {options.seeds} seeds"]
    scores, aurocs = {}, {}
    for name, (values, pairs) in {"clusters of the true bins": (true, nearby), **graphs}.items():
        of_spots = name == "spots"
        labels, numbers = [], []
        for seed in range(options.seeds):
            graph = neighbor_graph(embed(log_normalize(values), seed), pairs)
            found = find_partition(graph, target, seed) if seed < 3 and name != "clusters of the true bins" else None
            at_one = partition(graph, 1.0, seed)
            numbers.append(at_one.n_clusters)
            found = at_one if found is None else found
            if seed < 3:
                labels.append(found.labels[parent] if of_spots else found.labels)
        rand = [adjusted_rand_score(truth.labels, one) for one in labels]
        scores[name] = [
            f"{whole_spots(labels[0], parent):.3f}",
            f"{rand[0]:.3f}",
            ", ".join(f"{one:.3f}" for one in rand),
            str(len(np.unique(labels[0]))),
            ", ".join(map(str, numbers)),
        ]
        aurocs[name] = [
            f"{best_auroc(labels[0], true[:, columns_of(slide, genes)].sum(axis=1) > 0):.3f}"
            for genes in STRUCTURES.values()
            if len(columns_of(slide, genes))
        ]
        print(f"{name}: {'; '.join([*scores[name], *aurocs[name]])}", file=sys.stderr, flush=True)
    write(markdown(pd.DataFrame(scores, index=columns).T) + "\n")
    found_structures = [name for name, genes in STRUCTURES.items() if len(columns_of(slide, genes))]
    if found_structures:
        write(markdown(pd.DataFrame(aurocs, index=found_structures).T))


def columns_of(slide: FineSlide, genes: tuple[str, ...]) -> np.ndarray:
    return np.flatnonzero(np.isin(slide.genes, genes))


def markdown(table: pd.DataFrame) -> str:
    lines = ["| clusters of | " + " | ".join(table.columns) + " |", "|---" * (table.shape[1] + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(row) + " |" for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join(lines) + "\n"


def write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
