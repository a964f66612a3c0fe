"""Score the default method on fine truth: high-resolution slides as Visium would have measured them.

    python docs/make_fine_truth.py DATA [NAME ...] [--thinnings N] [--genes N] [--mode mean|sample] [--model FILE]
                                  [--draws N] [--peers A,B]
                                  writes docs/results/fine_truth.json and the figures of the pages that
                                  quote it, and prints Markdown tables

DATA is a folder with NAME.h5ad (square bins; obsm["spatial"] in micrometers, obsm["spatial_px"] in image pixels) and,
where there is one, an image NAME_*.jpg. Every count is assigned at random to one of two halves. The slide is made from
one half: disks of 55 um on a hexagonal lattice. The other half is the truth, in pixels of 2 x 2 bins. It is what
``napari-srast evaluate`` does with --spot-diameter 55; docs/results/fine_truth.md defines the columns.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import make_quotes

from napari_srast.core.settings import UpsampleSettings
from napari_srast.evaluation.fine_slide import read_fine_slide
from napari_srast.evaluation.fine_truth import WITHOUT_IMAGE, FineEvaluation, evaluate_fine_truth
from napari_srast.evaluation.simulated_array import SimulatedArray

OUTPUT = Path(__file__).parent / "results" / "fine_truth.json"
DISK = 55.0  # um
PITCH = 100.0  # um, rounded to whole pixels
BINS_PER_PIXEL = 2  # along one side
N_GENES = 120  # most abundant, without mitochondrial and ribosomal genes
LABELS = {"srast": "default", WITHOUT_IMAGE: "default, counts alone", "gp": "gp"}
CELL_COLUMNS = ("nats_per_count", "totals", "composition", "genes_below_uniform", "stated_skill")
MAP_COLUMNS = ("slide_nats", "pcc", "ssim", "seam_ratio")
COVERAGE_COLUMNS = ("coverage_80", "coverage_80_high")


def evaluate(folder: Path, name: str, options: argparse.Namespace) -> FineEvaluation:
    images = sorted(folder.glob(f"{name}_*.jpg"))
    slide = read_fine_slide(folder / f"{name}.h5ad", image=images[0] if images else None, genes=options.genes)
    pixel = BINS_PER_PIXEL * slide.bin_side
    factor = int(PITCH // pixel)
    array = SimulatedArray(pitch=factor * pixel, lattice="hex", spot_diameter=DISK)
    settings = UpsampleSettings(factor=factor, mode=options.mode, model=options.model, draws=options.draws)
    return evaluate_fine_truth(
        slide,
        array,
        settings=settings,
        thinnings=options.thinnings,
        peers=options.peers.split(",") if options.peers else (),
    )


def markdown(evaluation: FineEvaluation) -> str:
    """Return two tables of a slide: scores inside spots, and scores of counts and expression on the whole slide."""
    truth = evaluation.to_dict()["truth"]
    lines = [
        f"{evaluation.name}: {evaluation.n_spots} spots, {evaluation.n_pixels} pixels, {len(evaluation.genes)} genes, "
        f"{len(evaluation.truth)} thinnings. Noise ceiling of PCC {truth['pcc_ceiling']:.3f}; the other half has an "
        f"SSIM of {truth['ssim_other_half']:.3f}, the truth a seam ratio of {truth['seam_ratio']:.2f}.",
        "",
        "| method | " + " | ".join(CELL_COLUMNS) + " |",
        "|---" * (len(CELL_COLUMNS) + 1) + "|",
    ]
    for method, thinnings in evaluation.scores.items():
        summaries = [scores.summary() for scores in thinnings]
        cells = [", ".join(number(summary[column]) for summary in summaries) for column in CELL_COLUMNS]
        lines.append(f"| {LABELS.get(method, method)} | " + " | ".join(cells) + " |")
    columns = [column for name in MAP_COLUMNS for column in (name, f"{name}_expression")]
    lines += ["", "| method | " + " | ".join([*columns, *COVERAGE_COLUMNS]) + " |"]
    lines.append("|---" * (len(columns) + len(COVERAGE_COLUMNS) + 1) + "|")
    for method in evaluation.scores:
        mean = evaluation.mean(method)
        cells = [number(mean[column]) for column in (*columns, *COVERAGE_COLUMNS)]
        lines.append(f"| {LABELS.get(method, method)} | " + " | ".join(cells) + " |")
    best = {"pcc": truth["pcc_ceiling"], "ssim": truth["ssim_other_half"], "seam_ratio": truth["seam_ratio"]}
    cells = [number(best.get(column.removesuffix("_expression"), float("nan"))) for column in columns]
    lines.append("| noise ceiling, other half, truth | " + " | ".join([*cells, "", ""]) + " |")
    return "\n".join(lines)


def number(value: float) -> str:
    return "" if value != value else f"{value:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--thinnings", type=int, default=3)
    parser.add_argument("--genes", type=int, default=N_GENES)
    parser.add_argument("--mode", choices=["mean", "sample"], default="mean")
    parser.add_argument("--draws", type=int, help="of the flow in mode sample, which do not enter the expression")
    parser.add_argument("--model", default="default")
    parser.add_argument("--peers", default="", help="such as smoother,smoothie,istar-like")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    names = options.names or sorted(path.stem for path in options.data.glob("*.h5ad"))
    results = {}
    for name in names:
        evaluation = evaluate(options.data, name, options)
        results[name] = evaluation.to_dict()
        sys.stdout.write(markdown(evaluation) + "\n\n")
        sys.stdout.flush()
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.output == OUTPUT:
        make_quotes.update()


if __name__ == "__main__":
    main()
