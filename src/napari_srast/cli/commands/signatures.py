"""Implement ``napari-srast signatures``: score gene sets in the pixels of a result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import typer

from napari_srast.cli.output import note, print_table, progress_bar
from napari_srast.cli.parsing import check_exists, check_output

_MAX_NAMES = 8  # missing genes that a note lists


def run(source: Path, sets: str, output: Path | None, *, seed: int, run_name: str | None) -> None:
    """Score gene sets, write the scores, and print their range."""
    check_exists(source, "result")
    if output is not None:
        check_output(output, (".csv", ".csv.gz"), inputs=(source,))
    from napari_srast.analysis.packages import import_package

    gene_sets = _gene_sets(sets)
    import_package("scanpy", "Signatures need")  # before the result is read
    from napari_srast.analysis.signatures import describe_left_out, signatures, write_scores
    from napari_srast.io.result_reader import read_result

    result = read_result(source, run_name)
    with progress_bar() as report:
        scores = signatures(result, gene_sets, seed=seed, progress=report)
    if output is not None:
        write_scores(result, scores, output)
    rows = [
        [name, len(scores.attrs["genes"][name]), *(float(value) for value in scores[name].quantile([0.05, 0.5, 0.95]))]
        for name in scores
    ]
    print_table(["signature", "genes", "5 % of pixels below", "median", "95 % of pixels below"], rows)
    for name, missing in scores.attrs["missing"].items():
        if missing:
            more = f" and {len(missing) - _MAX_NAMES} more" if len(missing) > _MAX_NAMES else ""
            note(f"Note: '{name}' is scored without {', '.join(missing[:_MAX_NAMES])}{more}, which have no expression.")
    if left_out := describe_left_out(scores):
        note(f"Note: {left_out}")
    if output is not None:
        typer.echo(f"Wrote {output}")


def _gene_sets(text: str) -> Mapping[str, tuple[str, ...]]:
    """Return the gene sets of a file, or of a text if it has a colon and is not the path of a file."""
    from napari_srast.analysis.gene_sets import parse_gene_sets, read_gene_sets

    if ":" in text and not os.path.exists(text) and not text.casefold().endswith((".gmt", ".csv", ".tsv", ".txt")):
        return parse_gene_sets(text)
    check_exists(Path(text), "file of gene sets")
    return read_gene_sets(text)
