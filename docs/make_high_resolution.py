"""Score the expression on slides of cells, beads and bins, measured by disks with gaps or by whole squares.

    python docs/make_high_resolution.py DATA [NAME ...] [--lattices hex,square] [--thinnings N] [--genes N] [--draws N]
                                       [--folds FOLDER]
                                       writes docs/results/high_resolution.json and prints a Markdown table

DATA is a folder with NAME.h5ad (coordinates in obsm["spatial"]). It is what ``napari-srast evaluate`` does with
--spot-diameter and --thin: every count is assigned at random to one of two halves, the slide is made from one half, and
the other half is the truth. Disks have 0.55 pitches on a hexagonal lattice; squares measure everything. *Trial* is the
Gaussian process of each gene, times a Gamma-Poisson posterior of every spot (evaluation/exact_process.py).

--folds: the work folder of a training. Each slide is scored by the network of the fold that holds it out, so that no
network has seen the slide; a slide that is not in the recipe is scored by the shipped network.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import anndata
import make_quotes
import numpy as np
from scipy import sparse

from napari_srast.checkpoints.storage import load_checkpoint
from napari_srast.core.settings import UpsampleSettings
from napari_srast.evaluation.fine_slide import FineSlide, abundant_genes
from napari_srast.evaluation.fine_truth import FineEvaluation, evaluate_fine_truth
from napari_srast.evaluation.simulated_array import SimulatedArray

OUTPUT = Path(__file__).parent / "results" / "high_resolution.json"
N_GENES = 120  # most abundant
DISK = 0.55  # pitches
SLIDES = {  # pitch in the unit of the file, pixels per pitch
    "cosmx_human_kidney_11genes": (60.0, 5),
    "cosmx_human_nsclc_profast": (60.0, 5),
    "merfish_mouse_hypothalamus_a1_bm0p09": (90.0, 5),
    "merfish_mouse_hypothalamus_a7_b0p16": (90.0, 5),
    "merfish_mouse_motorcortex_crop": (110.0, 5),
    "merscope_mouse_brain_mini": (40.0, 4),
    "osmfish_mouse_sscortex": (90.0, 6),
    "seqfish_mouse_embryo2": (170.0, 5),
    "slideseq_mouse_cerebellum": (150.0, 5),
    "starmap_mouse_v1_1k_by3": (950.0, 5),
}
COLUMNS = make_quotes.HIGH_RESOLUTION_COLUMNS


def read_points(path: Path, n_genes: int) -> FineSlide:
    """Read all observations of a file as points; sections of one file are overlaid."""
    table = anndata.read_h5ad(path)
    points = np.asarray(table.obsm["spatial"], dtype=float)
    slide = FineSlide(
        name=path.stem,
        counts=sparse.csr_matrix(table.X, dtype=np.float64),
        genes=np.asarray(table.var_names, dtype=str),
        points=points - points.min(axis=0),
        bin_side=0.0,
    )
    return slide.select(abundant_genes(slide.counts, slide.genes, n_genes))


def unseen_model(folder: Path, name: str) -> str:
    """Return a network that has not seen a slide: of the fold of a training that holds it out, else the shipped one."""
    for path in sorted(folder.glob("fold*.safetensors")):
        if name in load_checkpoint(path).record["held_out"]:
            return str(path)
    if name in load_checkpoint().record["slides"]:
        sys.exit(f"The shipped network has seen '{name}', and no fold in '{folder}' holds it out.")
    return "default"


def evaluate(folder: Path, name: str, lattice: str, options: argparse.Namespace) -> FineEvaluation:
    pitch, factor = SLIDES[name]
    slide = read_points(folder / f"{name}.h5ad", options.genes)
    array = SimulatedArray(
        pitch=pitch, lattice=lattice, spot_diameter=DISK * pitch if lattice == "hex" else None, min_counts=10
    )
    model = "default" if options.folds is None else unseen_model(options.folds, name)
    settings = UpsampleSettings(factor=factor, mode="sample", draws=options.draws, model=model)
    return evaluate_fine_truth(slide, array, settings=settings, thinnings=options.thinnings)


def row(evaluation: FineEvaluation) -> list[float]:
    """Return the values of :data:`COLUMNS`."""
    ours, trial = evaluation.mean("srast"), evaluation.mean("gp")
    ceiling = evaluation.to_dict()["truth"]["pcc_ceiling"]
    return [
        ours["slide_nats"],
        ours["slide_nats_expression"],
        trial["slide_nats_expression"],
        ours["pcc"],
        ours["pcc_expression"],
        trial["pcc_expression"],
        np.nan if ceiling is None else ceiling,
        ours["pcc_scaled"],
        ours["pcc_scaled_expression"],
        trial["pcc_scaled_expression"],
        ours["seam_ratio_expression"],
        ours["coverage_80"],
        ours["coverage_80_high"],
    ]


def number(value: float) -> str:
    return "" if not np.isfinite(value) else f"{value:.3f}"


def write_row(label: str, values: list[Any]) -> None:
    sys.stdout.write(f"| {label} | " + " | ".join(str(value) for value in values) + " |\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--lattices", default="hex,square")
    parser.add_argument("--thinnings", type=int, default=1)
    parser.add_argument("--genes", type=int, default=N_GENES)
    parser.add_argument("--draws", type=int, default=2, help="of the flow, which do not enter the expression")
    parser.add_argument("--folds", type=Path, help="work folder of a training")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    rows = []
    write_row("slide, lattice (spots)", list(COLUMNS))
    write_row("---", ["---"] * len(COLUMNS))
    for lattice in options.lattices.split(","):
        for name in options.names or list(SLIDES):
            evaluation = evaluate(options.data, name, lattice, options)
            results[f"{name}, {lattice}"] = found = evaluation.to_dict()
            found["settings"]["model"] = Path(found["settings"]["model"]).name
            rows.append(row(evaluation))
            write_row(f"{name}, {lattice} ({evaluation.n_spots})", [number(value) for value in rows[-1]])
            options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_row("mean", [number(value) for value in np.nanmean(np.array(rows), axis=0)])
    if options.output == OUTPUT:
        make_quotes.update()


if __name__ == "__main__":
    main()
