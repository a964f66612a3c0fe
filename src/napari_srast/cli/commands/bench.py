"""Implement ``napari-srast bench``: a table of run times and memory, JSON, and plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast.cli.output import note, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from napari_srast.benchmarks.measurement import Measurement


def run(
    spots: Sequence[int],
    genes: Sequence[int],
    factors: Sequence[float],
    workers: Sequence[int],
    devices: Sequence[str],
    *,
    peer: bool,
    peers: Sequence[str],
    plots: Path | None,
    as_json: bool,
) -> None:
    """Run the benchmark, print it and plot it."""
    from napari_srast._utils.devices import choose_device
    from napari_srast.benchmarks.scaling import run_benchmark

    devices = [choose_device(device) for device in devices]
    with progress_bar() as report:
        measured = run_benchmark(
            spots,
            genes=genes,
            factors=factors,
            workers=workers,
            devices=devices,
            peer=peer,
            peers=peers,
            progress=report,
        )
    if plots is not None:
        from napari_srast.benchmarks.plots import plot_benchmark

        for path in plot_benchmark(measured, plots):
            note(f"Wrote {path}")
    if as_json:
        print_json(measured.to_dict())
        return
    rows = [
        [
            one.case.method,
            one.case.device,
            one.case.spots,
            one.case.genes,
            one.case.factor,
            one.case.workers or "",
            one.seconds,
            one.cpu_seconds,
            *("" if value is None else value for value in _optional_seconds(one)),
            one.process_mb,
        ]
        for one in measured.measurements
    ]
    heads = ["method", "device", "spots", "genes", "factor", "tiles at once", "seconds", "CPU s", "floor s"]
    heads += ["writing s", "first region s", "region s", "peak MB"]
    print_table(heads, rows)
    growth = measured.growth("srast")
    if not math.isnan(growth):
        note(f"The run time of the model grows as the number of spots to the power {growth:.2f}.")


def _optional_seconds(one: Measurement) -> tuple[float | None, ...]:
    """Return the times that are measured for some jobs only."""
    return one.floor_seconds, one.write_seconds, one.first_region_seconds, one.region_seconds
