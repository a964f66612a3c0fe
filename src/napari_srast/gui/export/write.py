"""Write a result, its report or a figure of it to disk as a background task."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from napari_srast.analysis.domains import Domains
from napari_srast.core.progress import CancelCheck, Progress, RunMonitor, iterate_progress
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.export.panel_figure import FigureOptions, write_figure
from napari_srast.gui.layers.gene_colors import GeneStyle
from napari_srast.gui.runtime import background
from napari_srast.gui.state.displayed_result import DisplayedResult

__all__ = ["export_steps", "figure_steps", "report_steps"]


def report_steps(
    result: UpsampleResult, path: Path, genes: Sequence[str], domains: Mapping[str, Domains]
) -> background.Steps:
    """Return the task that writes the report of a result; if it is canceled, no file is left.

    Parameters
    ----------
    result
        The result.
    path
        The file to write.
    genes
        Genes with a picture; if there are none, the most abundant ones have one.
    domains
        Sets of domains by name.
    """

    def write(should_stop: CancelCheck) -> Path:
        from napari_srast.analysis.report.writer import write_report

        return write_report(result, path, genes=list(genes) or None, domains=domains, should_stop=should_stop)

    return background.low_priority(background.call(write))


def figure_steps(
    displayed: DisplayedResult, slide: Slide, styles: Sequence[GeneStyle], options: FigureOptions, path: Path
) -> background.Steps:
    """Return the task that writes a figure; if it is canceled, no file is left.

    See :func:`napari_srast.gui.export.panel_figure.write_figure` for the parameters.
    """

    def write(should_stop: CancelCheck) -> Path:
        write_figure(displayed, slide, styles, options, path, should_stop=should_stop)
        return path

    return background.low_priority(background.call(write))


def export_steps(result: UpsampleResult, path: Path, *, into_slide: bool) -> background.Steps:
    """Return the task that writes a result; if it is canceled, no partial file is left.

    Parameters
    ----------
    result
        The result.
    path
        The file or store to write; its ending is the format, see :func:`napari_srast.export`.
    into_slide
        Whether to add the result to the existing store of the slide at ``path``.
    """

    def steps(should_stop: CancelCheck) -> Generator[Progress, None, Path]:
        def write(monitor: RunMonitor) -> Path:
            from napari_srast.io.export.exporter import export
            from napari_srast.io.result_writer import write_result

            progress, stop = monitor.on_progress, monitor.should_stop
            if into_slide:
                return write_result(result, path, into_slide=True, progress=progress, should_stop=stop)
            return export(result, path, progress=progress, should_stop=stop)

        return (yield from iterate_progress(write, should_stop))

    return steps
