"""``napari-srast bench``: a table of seconds and memory, or all figures as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence

from napari_srast.cli.console import note, print_json, print_table, progress_bar


def run(spots: Sequence[int], *, as_json: bool) -> None:
    """Measure and print."""
    from napari_srast.evaluation.bench import bench

    with progress_bar() as report:
        measured = bench(spots, progress=report)
    if as_json:
        print_json(measured.to_dict())
        return
    rows = [[m.method, m.spots, m.genes, m.factor, m.pixels, m.seconds, m.peak_mb] for m in measured.measurements]
    print_table(["method", "spots", "genes", "factor", "pixels", "seconds", "peak MB"], rows)
    growth = measured.growth("srast")
    if not math.isnan(growth):
        note(f"The model's seconds grow as the number of spots to the power {growth:.2f}.")
