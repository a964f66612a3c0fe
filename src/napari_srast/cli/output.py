"""Print progress and notes on standard error, and results on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_srast._utils.serialize import to_json_values

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from napari_srast.core.progress import ProgressCallback

__all__ = ["note", "print_figures", "print_json", "print_table", "progress_bar", "save_and_show", "wide_console"]

_TABLE_WIDTH = 120
_SHOWN_ROWS = 20


def note(text: str) -> None:
    """Print a note on standard error."""
    sys.stderr.write(text + "\n")


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Show a progress bar on a terminal and nothing in a log file; yield the function that updates it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:  # older versions of Rich write an empty line for a disabled bar
        yield lambda _: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(step: Any) -> None:
            count = f" {step.done}/{step.total}" if step.total > 1 else ""
            bar.update(task, completed=step.fraction, description=f"{step.stage}{count} {step.detail}".rstrip())

        yield report


def print_json(value: Any) -> None:
    """Write a value as JSON to standard output."""
    sys.stdout.write(json.dumps(to_json_values(value), indent=2, ensure_ascii=False) + "\n")


def print_figures(figures: Mapping[str, Any], title: str = "") -> None:
    """Write named values, one per line, with nested values indented."""
    if title:
        sys.stdout.write(title + "\n")
    _write_figures(figures, "  " if title else "")


def wide_console() -> Console:
    """Return a console on standard output that is wide enough for a table, also when piped."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, _TABLE_WIDTH)
    return console


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table to standard output: text in the first column, numbers in the others; omit empty columns."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    texts = [[_text(cell) for cell in row] for row in rows]
    filled = [i for i in range(len(headings)) if not texts or any(row[i] for row in texts)]
    for i in filled:
        table.add_column(headings[i], justify="left" if i == 0 else "right", overflow="fold", no_wrap=i == 0)
    for row in texts:
        table.add_row(*(row[i] for i in filled))
    wide_console().print(table)


def save_and_show(table: pd.DataFrame, output: Path | None, text: str) -> None:
    """Write a table as CSV if a file is named, and print its first rows and a note."""
    from napari_srast.io.atomic import write_table

    if output is not None:
        write_table(table, output)
    print_table(list(table.columns), table.head(_SHOWN_ROWS).to_numpy().tolist())
    note(f"Note: {text}")
    if output is not None:
        sys.stdout.write(f"Wrote {output}\n")


def _write_figures(figures: Mapping[str, Any], indent: str) -> None:
    width = max((len(str(key)) for key in figures), default=0)
    for key, value in figures.items():
        if isinstance(value, Mapping) and value:
            sys.stdout.write(f"{indent}{key}\n")
            _write_figures(value, indent + "  ")
        elif _are_sentences(value):
            for i, sentence in enumerate(value):
                sys.stdout.write(f"{indent}{'' if i else key!s:<{width}}  {sentence}\n")
        else:
            sys.stdout.write(f"{indent}{key!s:<{width}}  {_text(value)}\n")


def _are_sentences(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(str(item).endswith(".") for item in value)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, list | tuple | Mapping):
        return ", ".join(_text(item) for item in value) or "-"
    return str(value)
