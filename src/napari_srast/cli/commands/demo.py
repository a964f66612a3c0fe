"""``napari-srast demo``: drive the real window over the built-in slide, on this screen or on a virtual one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from napari_srast.cli.output import note, plain, print_figures, print_json, print_table
from napari_srast.cli.virtual_display import has_display, in_virtual_display, run_in_virtual_display
from napari_srast.errors import OutputError

DEFAULT_FOLDER = Path("srast-demo")
REPORT = "report.json"
_MARK, _MADE_BY = "made_by", "napari-srast demo"
_OWN_FILES = ("overlay.png", "result.zarr", REPORT)


def run(out: Path | None, *, headless: bool, as_json: bool) -> None:
    """Run the demo; headless also where there is no display to show a window on."""
    if in_virtual_display():
        _perform(out, headless=True)
        return
    headless = headless or not has_display()
    if headless and out is None:
        out = DEFAULT_FOLDER
    if out is not None:
        _make_room(out)
    if headless and sys.platform.startswith("linux"):
        note("Running the window on a virtual screen; this takes a minute or two.")
        status = run_in_virtual_display(["demo", "--headless", "--out", str(out)])
        if status != 0:
            raise typer.Exit(1 if status < 0 else status)
    else:
        _perform(out, headless=headless)
    if out is None:
        return
    report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    if as_json:
        print_json(report)
    else:
        _show(report, out)


def _perform(out: Path | None, *, headless: bool) -> None:
    from napari_srast.gui.demo import run_demo

    report = {_MARK: _MADE_BY, **run_demo(out, headless=headless)}
    if out is not None:
        text = json.dumps(plain(report), indent=2, ensure_ascii=False)
        (out / REPORT).write_text(text + "\n", encoding="utf-8")


def _make_room(out: Path) -> None:
    """Make the folder; of an earlier demo, which its report proves, the files are removed.

    Raises
    ------
    OutputError
        The folder cannot be made, or holds files of these names that no demo made.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"'{out}' is a file; choose a folder for --out.")
    there = [name for name in _OWN_FILES if (out / name).exists()]
    if there and not _is_report(out / REPORT):
        raise OutputError(f"The folder '{out}' holds {' and '.join(there)} already; choose another for --out.")
    try:
        for name in there:
            path = out / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder '{out}' cannot be made or emptied ({error.strerror}); choose another for --out."
        ) from error


def _is_report(path: Path) -> bool:
    """Tell whether a file is the report of a demo."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get(_MARK) == _MADE_BY


def _show(report: Mapping[str, Any], out: Path) -> None:
    nested = {key: value for key, value in report.items() if isinstance(value, Mapping)}
    print_figures({key: value for key, value in report.items() if key not in nested and not isinstance(value, list)})
    scores = nested.pop("scores", None)
    for name, figures in nested.items():
        print_figures(figures, title=name)
    if scores:
        measures = list(next(iter(scores.values())))
        rows = [[method, *(values.get(measure) for measure in measures)] for method, values in scores.items()]
        print_table(["against the truth", *(measure.replace("_", " ") for measure in measures)], rows)
    note(f"Wrote overlay.png, result.zarr and {REPORT} to {out}.")
