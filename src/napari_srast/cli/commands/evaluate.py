"""Implement ``napari-srast evaluate``: score every method on a coarsened high-resolution slide."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from napari_srast.cli.output import note, print_json, progress_bar, wide_console
from napari_srast.cli.parsing import check_output
from napari_srast.errors import OutputError

_STANDARD_OUTPUT = Path("-")


def run(
    truth: Path,
    *,
    pitch: float,
    lattice: Literal["square", "hex"],
    factor: float,
    model: str,
    json_path: Path | None,
    plots: Path | None,
) -> None:
    """Run the evaluation and write the requested outputs; print a table unless JSON goes to standard output."""
    if json_path is not None and json_path != _STANDARD_OUTPUT:
        check_output(json_path, (".json",))
    if plots is not None and plots.exists() and not plots.is_dir():
        raise OutputError(f"'{plots}' is a file; choose a folder for --plots.")
    if plots is not None and importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("plots need matplotlib", name="matplotlib")

    from napari_srast.evaluation import protocol, report

    with progress_bar() as show:
        evaluation = protocol.evaluate(truth, pitch=pitch, lattice=lattice, factor=factor, model=model, progress=show)
    if json_path == _STANDARD_OUTPUT:
        print_json(evaluation.to_dict())
    else:
        wide_console().print(report.evaluation_table(evaluation))
        if json_path is not None:
            note(f"Wrote {report.write_json(evaluation, json_path)}.")
    if plots is not None:
        note(f"Wrote {', '.join(str(path) for path in report.write_plots(evaluation, plots))}.")
