"""Implement ``napari-srast demo``: drive the real window over a built-in slide, on a real or virtual display."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from napari_srast._utils.serialize import to_json_values
from napari_srast.cli.output import note, print_figures, print_json, print_table
from napari_srast.cli.virtual_display import has_display, in_virtual_display, run_in_virtual_display
from napari_srast.errors import OutputError

DEFAULT_FOLDER = Path("srast-demo")
REPORT = "report.json"
_MARK, _MADE_BY = "made_by", "napari-srast demo"
_DEMO_FILES = ("overlay.png", "result.zarr", REPORT)


def run(out: Path | None, *, real: bool, headless: bool, as_json: bool) -> None:
    """Run the demo on the synthetic or the measured slide, headless if there is no display."""
    if in_virtual_display():
        _perform(out, real=real, headless=True)
        return
    headless = headless or not has_display()
    if headless and out is None:
        out = DEFAULT_FOLDER
    if out is not None:
        _prepare_folder(out)
    if headless and sys.platform.startswith("linux"):
        note("Running the window on a virtual display; this takes a minute or two.")
        status = run_in_virtual_display(["demo", "--headless", "--out", str(out), *(["--real"] if real else [])])
        if status != 0:
            raise typer.Exit(1 if status < 0 else status)
    else:
        _perform(out, real=real, headless=headless)
    if out is None:
        return
    report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    if as_json:
        print_json(report)
    else:
        _show(report, out)


def _perform(out: Path | None, *, real: bool, headless: bool) -> None:
    from napari_srast.datasets.mouse_dentate_gyrus import mouse_dentate_gyrus_path
    from napari_srast.gui.demo import run_demo

    slide = mouse_dentate_gyrus_path() if real else None
    report = {_MARK: _MADE_BY, **run_demo(out, headless=headless, slide=slide)}
    if out is not None:
        text = json.dumps(to_json_values(report), indent=2, ensure_ascii=False)
        (out / REPORT).write_text(text + "\n", encoding="utf-8")


def _prepare_folder(out: Path) -> None:
    """Create the output folder, and remove the files of an earlier demo, which its report identifies.

    Raises
    ------
    OutputError
        The folder cannot be created, or it contains files with these names that no demo wrote.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"'{out}' is a file; choose a folder for --out.")
    existing = [name for name in _DEMO_FILES if (out / name).exists()]
    if existing and not _is_report(out / REPORT):
        raise OutputError(
            f"The folder '{out}' already contains {' and '.join(existing)}; choose another folder for --out."
        )
    try:
        for name in existing:
            path = out / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder '{out}' cannot be created or emptied ({error.strerror}); choose another folder for --out."
        ) from error


def _is_report(path: Path) -> bool:
    """Return whether a file is the report of a demo."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(report, dict) and report.get(_MARK) == _MADE_BY


def _show(report: Mapping[str, Any], out: Path) -> None:
    nested = {key: value for key, value in report.items() if isinstance(value, Mapping)}
    print_figures({key: value for key, value in report.items() if key not in nested and not isinstance(value, list)})
    scores = nested.pop("scores", None)
    for name, figures in nested.items():
        print_figures(figures, title=name)
    if scores:
        measures = list(next(iter(scores.values())))
        rows = [[method, *(values.get(measure) for measure in measures)] for method, values in scores.items()]
        print_table(["against the ground truth", *(measure.replace("_", " ") for measure in measures)], rows)
    note(f"Wrote overlay.png, result.zarr and {REPORT} to {out}.")
