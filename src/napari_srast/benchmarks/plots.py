"""Plot a benchmark: time and memory against each size, for all methods, with the physical floor."""

from __future__ import annotations

from pathlib import Path

from napari_srast.benchmarks.measurement import Measurement
from napari_srast.benchmarks.scaling import Benchmark
from napari_srast.evaluation.plots import figure_class, save_figures

__all__ = ["plot_benchmark"]

_AXIS_LABELS = {"workers": "tiles computed at the same time"}


def plot_benchmark(measured: Benchmark, folder: Path) -> list[Path]:
    """Draw one PNG file for each size that was varied.

    Parameters
    ----------
    measured
        Result of :func:`napari_srast.benchmarks.scaling.run_benchmark`.
    folder
        Folder to write to; it is created if it does not exist.

    Returns
    -------
    list of Path
        The written files.

    Raises
    ------
    OutputError
        Matplotlib is not installed, or the folder cannot be written.
    """
    figure_type = figure_class()
    figures = {}
    lines = list(dict.fromkeys((one.case.method, one.case.device) for one in measured.measurements))
    for size in ("spots", "genes", "factor", "workers"):
        sweeps = {line: sweep for line in lines if (sweep := _sweep(measured, size, *line))}
        if not any(len(sweep) > 1 for sweep in sweeps.values()):
            continue
        figure = figure_type(figsize=(9, 3.6), layout="constrained")
        time, memory = figure.subplots(1, 2)
        for (method, device), sweep in sweeps.items():
            x = [_size(one, size) for one in sweep]
            label = method if device == "cpu" else f"{method} on {device}"
            time.plot(x, [one.seconds for one in sweep], "o-", label=label)
            memory.plot(x, [one.process_mb for one in sweep], "o-", label=label)
        floors = [[one for one in sweep if one.floor_seconds is not None] for sweep in sweeps.values()]
        floor = max(floors, key=len)
        x = [_size(one, size) for one in floor]
        time.plot(x, [one.floor_seconds for one in floor], "k--", label="bytes in and out at memory bandwidth")
        for axes, label in ((time, "seconds"), (memory, "peak memory of the process, MB")):
            axes.set(xscale="log", yscale="log", xlabel=_AXIS_LABELS.get(size, size), ylabel=label)
            sizes = sorted({_size(one, size) for sweep in sweeps.values() for one in sweep})
            axes.set_xticks(sizes, [f"{at:,g}" for at in sizes])
            axes.set_xticks([], minor=True)
            axes.grid(alpha=0.3)
        memory.set_yscale("linear")
        memory.set_ylim(bottom=0)
        figure.legend(*time.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize="small")
        figures[f"bench_{size}.png"] = figure
    return save_figures(figures, folder)


def _size(one: Measurement, size: str) -> float:
    return float(getattr(one.case, size))


def _sweep(measured: Benchmark, size: str, method: str, device: str) -> list[Measurement]:
    """Return the measurements of a method on a device in which only one size varies, sorted by that size."""
    cases = [one.case for one in measured.measurements]
    base = {name: getattr(cases[0], name) for name in ("spots", "genes", "factor", "workers") if name != size}
    if size == "workers":  # varied on the largest slide
        base["spots"] = max(case.spots for case in cases)
    by_size = {
        _size(one, size): one
        for one in measured.measurements
        if (one.case.method, one.case.device) == (method, device)
        and getattr(one.case, size) is not None
        and all(getattr(one.case, name) == value for name, value in base.items())
    }
    return [by_size[at] for at in sorted(by_size)]
