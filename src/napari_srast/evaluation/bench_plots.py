"""Plots of a benchmark: time and memory against each size, the model beside its peer and the physical floor."""

from __future__ import annotations

from pathlib import Path

from napari_srast.evaluation.bench import PEER, Benchmark, Measurement
from napari_srast.evaluation.plots import figure_class, save_figures

__all__ = ["plot_benchmark"]

_COLOURS = {"srast": "tab:blue", PEER: "tab:orange"}


def plot_benchmark(measured: Benchmark, folder: Path) -> list[Path]:
    """Draw one picture for each size that was varied; returns the files.

    Parameters
    ----------
    measured
        From :func:`napari_srast.evaluation.bench.bench`.
    folder
        Where they go; made if it is not there.

    Raises
    ------
    OutputError
        Matplotlib is not installed, or the folder cannot be written.
    """
    make = figure_class()
    drawn = {}
    for size in ("spots", "genes", "factor", "workers"):
        sweeps = {method: _sweep(measured, size, method) for method in _COLOURS}
        if len(sweeps["srast"]) < 2:
            continue
        figure = make(figsize=(9, 3.6), layout="constrained")
        time, memory = figure.subplots(1, 2)
        for method, sweep in sweeps.items():
            if not sweep:
                continue
            x = [_size(one, size) for one in sweep]
            time.plot(x, [one.seconds for one in sweep], "o-", color=_COLOURS[method], label=method)
            memory.plot(x, [one.process_mb for one in sweep], "o-", color=_COLOURS[method], label=method)
        floor = sweeps["srast"]
        x = [_size(one, size) for one in floor]
        time.plot(x, [one.floor_seconds for one in floor], "k--", label="bytes in and out at memory bandwidth")
        for axes, label in ((time, "seconds"), (memory, "peak memory of the process, MB")):
            axes.set(xscale="log", yscale="log", xlabel=size, ylabel=label)
            axes.grid(alpha=0.3, which="both")
        time.legend(fontsize="small")
        drawn[f"bench_{size}.png"] = figure
    return save_figures(drawn, folder)


def _size(one: Measurement, size: str) -> float:
    return float(getattr(one.case, size))


def _sweep(measured: Benchmark, size: str, method: str) -> list[Measurement]:
    """Return the measurements in which only one size was varied, in its order."""
    cases = [one.case for one in measured.measurements]
    held = [name for name in ("spots", "genes", "factor", "workers") if name != size]
    first = cases[0]
    base = {name: getattr(first, name) for name in held}
    if size == "workers":  # tried on the largest slide
        base["spots"] = max(case.spots for case in cases)
    found = {
        _size(one, size): one
        for one in measured.measurements
        if one.case.method == method
        and one.case.device in (first.device, "cpu")
        and getattr(one.case, size) is not None
        and all(getattr(one.case, name) == value for name, value in base.items())
    }
    return [found[at] for at in sorted(found)]
