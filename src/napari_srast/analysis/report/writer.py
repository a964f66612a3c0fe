"""Write the report of a run as one HTML file without external resources."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from napari_srast.analysis.domains import Domains
from napari_srast.analysis.report.content import collect
from napari_srast.core.mass_balance import gene_totals
from napari_srast.core.progress import CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.result import UpsampleResult
from napari_srast.errors import OutputError, translate_memory_errors
from napari_srast.evaluation.plots import figure_class
from napari_srast.io.atomic import atomic_output, refuse_inside
from napari_srast.io.file_kinds import has_suffix

__all__ = ["REPORT_SUFFIXES", "write_report"]

REPORT_SUFFIXES = (".html", ".htm")
_PICTURED = 6  # genes with a picture, if none are named
_MAX_PICTURED = 30
_SHOWN_GENES = 40  # rows of the table that are always visible
_MAX_GENES = 2000  # rows of the table


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A PNG as a data URI, its alternative text, and the gene that it shows."""

    uri: str
    alt: str
    gene: Any = None


@translate_memory_errors("while writing the report", "name fewer genes")
def write_report(
    result: UpsampleResult,
    path: str | Path,
    *,
    genes: Sequence[str] | None = None,
    domains: Mapping[str, Domains] | None = None,
    title: str | None = None,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> Path:
    """Write the report of a run: one HTML file with pictures, which opens in any browser and loads nothing else.

    It contains the file name of the slide, but no path, no name of an element or spot, and no position.

    Parameters
    ----------
    result
        The result.
    path
        The new file, ``.html``.
    genes
        Genes with a picture, at most 30; None for the six with the most counts. The table has all genes, up to 2,000.
    domains
        Sets of domains by name, such as :func:`napari_srast.read_domains` returns; None for none.
    title
        Heading of the report; None for the file name of the slide, which is then in the report.
    progress
        Called before each picture.
    should_stop
        Returns True once the computation should end.

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    InputError
        The result lacks a gene.
    OutputError
        The path does not end in .html, exists already or cannot be written, there are too many genes, or matplotlib is
        not installed.
    Cancelled
        ``should_stop`` returned True; no file is written.

    Examples
    --------
    >>> import napari_srast as srast
    >>> srast.write_report(srast.read_result("fine.zarr"), "fine.html", genes=["ERBB2"])  # doctest: +SKIP
    """
    import jinja2

    path, monitor = Path(path), RunMonitor(on_progress=progress, should_stop=should_stop)
    if not has_suffix(path, *REPORT_SUFFIXES):
        raise OutputError(f"A report cannot be written as '{path.name}'; let its name end in .html.")
    if result.slide.source.path is not None:
        refuse_inside(path, Path(result.slide.source.path))
    figure_class()  # refuses a missing matplotlib before anything is computed
    pictured = _most_abundant(result) if genes is None else list(dict.fromkeys(map(str, genes)))
    if len(pictured) > _MAX_PICTURED:
        raise OutputError(f"A report has pictures of at most {_MAX_PICTURED} genes, not {len(pictured)}; name fewer.")
    for gene in pictured:
        result.gene_column(gene)
    domains = {} if domains is None else dict(domains)
    with atomic_output(path) as partial:
        monitor.check_canceled()
        content = collect(result, pictured, domains)
        rows = {row.name: row for row in content.genes}
        environment = jinja2.Environment(autoescape=True, finalize=_printable, undefined=jinja2.StrictUndefined)
        template = environment.from_string((files(__package__) / "report.html").read_text(encoding="utf-8"))
        n_pictures = len(pictured) + len(domains)

        def before_picture(number: int) -> None:
            monitor.check_canceled()
            monitor.report("report", number, n_pictures)

        pictures: list[_Picture] = []
        domain_pictures: list[_Picture] = []
        for gene in pictured:
            before_picture(len(pictures))
            pictures.append(_draw_gene(result, rows[gene]))
        for name, found in domains.items():
            before_picture(len(pictures) + len(domain_pictures))
            domain_pictures.append(_draw_domains(name, found))
        text = template.render(
            content=content,
            title=content.slide if title is None else title,
            run=result.run,
            overview=_draw_overview(result),
            pictures=pictures,
            domain_pictures=domain_pictures,
            shown_genes=content.genes[:_SHOWN_GENES],
            other_genes=content.genes[_SHOWN_GENES:_MAX_GENES],
            n_left_out=max(len(content.genes) - _MAX_GENES, 0),
            in_spots=sum(row.in_spots for row in content.genes),
            in_pixels=sum(row.in_pixels for row in content.genes),
        )
        monitor.check_canceled()
        partial.write_text(text, encoding="utf-8", newline="\n")
    return path


def _most_abundant(result: UpsampleResult) -> list[str]:
    """Return the genes with the most counts, in the order of the result."""
    totals = gene_totals(result.counts)
    chosen = np.sort(np.lexsort((np.arange(len(totals)), -totals))[:_PICTURED])
    return [str(gene) for gene in result.genes[chosen]]


def _printable(value: Any) -> Any:
    """Replace control characters, and those that change the direction of what follows, in a text."""
    if type(value) is not str:
        return value
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cf", "Cs") else letter for letter in value)


def _draw_overview(result: UpsampleResult) -> _Picture:
    from napari_srast.analysis.report.pictures import draw_overview

    return _Picture(uri=_data_uri(draw_overview(result)), alt="The slide, with the spots that were upsampled in blue.")


def _draw_gene(result: UpsampleResult, row: Any) -> _Picture:
    from napari_srast.analysis.report.pictures import draw_gene

    png, titles = draw_gene(result, row.name)
    return _Picture(uri=_data_uri(png), alt=f"{row.name}: {', '.join(titles).lower()}.", gene=row)


def _draw_domains(name: str, found: Domains) -> _Picture:
    from napari_srast.analysis.report.pictures import draw_domains

    return _Picture(uri=_data_uri(draw_domains(found)), alt=f"Map of the domains '{name}'.")


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
