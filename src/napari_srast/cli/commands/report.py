"""Implement ``napari-srast report``: write the report of a result as HTML."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_srast.cli.output import progress_bar
from napari_srast.cli.parsing import check_exists, check_output, parse_genes

REPORT_SUFFIXES = (".html", ".htm")  # repeated here, because the writer is slow to import


def run(source: Path, output: Path, *, run_name: str | None, genes: str | None, title: str | None) -> None:
    """Write the report of a result, with the domains that its store contains."""
    check_exists(source, "result")
    check_output(output, REPORT_SUFFIXES, inputs=(source,))
    from napari_srast.io.result_reader import read_result

    result = read_result(source, run_name)
    names = None if genes is None else parse_genes(genes)
    if genes is not None and names is None:
        names = [str(gene) for gene in result.genes]
    from napari_srast.analysis.domains import read_domains
    from napari_srast.analysis.report.writer import write_report

    domains = read_domains(result, source) if source.is_dir() else {}
    with progress_bar() as show:
        written = write_report(result, output, genes=names, domains=domains, title=title, progress=show)
    typer.echo(f"Wrote {written}")
