"""Implement ``napari-srast upsample``: validate the request, compute, write, and print a summary."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_srast._utils.text import count
from napari_srast.cli.commands.report import REPORT_SUFFIXES
from napari_srast.cli.errors import explain
from napari_srast.cli.output import note, print_figures, print_json, progress_bar
from napari_srast.cli.parsing import RESULT_SUFFIXES, check_exists, check_output, parse_genes, parse_region
from napari_srast.core.run_name import check_run_name
from napari_srast.errors import Cancelled, InputError, InternalError, OutputError, SettingsError
from napari_srast.io.file_kinds import has_suffix

if TYPE_CHECKING:
    from napari_srast.core.progress import CancelCheck, ProgressCallback
    from napari_srast.core.result import UpsampleMetadata
    from napari_srast.core.settings import UpsampleSettings
    from napari_srast.inference.executors.base import Executor
    from napari_srast.io.spot_columns import SpotColumns

_SHOWN_GENES = 10
_INPUT_ERROR = 2  # exit status for wrong input
_SLIDES_AT_ONCE = 4  # with a cluster; this computer then only reads and writes the slides


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Options of the output.

    Parameters
    ----------
    name
        Name of the run; None for date and time.
    keep_obs
        Columns of the spots that the pixels keep, as text: ``A,B`` or ``all``; None for none.
    include_histology
        Whether a store contains the histology.
    report
        Report to write besides the output; None for none.
    """

    name: str | None = None
    keep_obs: str | None = None
    include_histology: bool = True
    report: Path | None = None

    @property
    def columns(self) -> SpotColumns:
        """Columns of the spots that the pixels keep."""
        if self.keep_obs is None:
            return ()
        if self.keep_obs.strip() == "all":
            return "all"
        names = [name.strip() for name in self.keep_obs.split(",")]
        if not all(names):
            raise SettingsError(f"--keep-obs is '{self.keep_obs}', which has an empty name; write A,B or all.")
        return names


@dataclass(frozen=True, kw_only=True)
class UpsampleOptions:
    """The options of the command.

    Parameters
    ----------
    settings
        Settings of the run, by the names of the fields of :class:`~napari_srast.core.settings.UpsampleSettings`.
    elements
        Choices of :func:`napari_srast.read_slide`, such as ``spots`` and ``image``.
    region, genes
        As on the command line.
    saving
        Options of the output.
    """

    settings: Mapping[str, Any]
    elements: Mapping[str, str | None]
    region: str | None
    genes: str
    saving: Saving


def run(slides: Sequence[Path], output: Path, options: UpsampleOptions, *, dask: str | None, as_json: bool) -> None:
    """Upsample one slide into a file, or several into a folder; check the outputs before computing."""
    saving = options.saving
    for slide in slides:
        check_exists(slide, "slide")
    if saving.report is not None:
        _check_report(saving.report, slides)
    outputs = [output] if len(slides) == 1 else _outputs_in(output, slides)
    for slide, target in zip(slides, outputs, strict=True):
        if len(slides) == 1 or output.exists():
            check_output(target, RESULT_SUFFIXES, inputs=(slide,))
    if options.region is not None and len(slides) > 1:
        raise SettingsError("--region applies to one slide; leave it out, or give only one slide.")
    genes = parse_genes(options.genes)
    check_run_name(saving.name)
    _ = saving.columns  # refuses wrong text before the slides are read

    from napari_srast.core.settings import UpsampleSettings

    settings = UpsampleSettings(**options.settings)
    for notice in settings.ineffective_options:
        note(f"Note: {notice}")
    halt = threading.Event()
    with _executor(dask) as executor:
        request = _Request(options, settings, genes, executor, halt.is_set)
        if len(slides) == 1:
            with progress_bar() as report:
                figures = _upsample(slides[0], output, request, report)
            print_json(figures) if as_json else print_figures(_shortened(figures))
            return
        output.mkdir(exist_ok=True)
        at_once = 1 if executor is None else _SLIDES_AT_ONCE
        _upsample_all(slides, outputs, request, halt, at_once=at_once, as_json=as_json)


@dataclass(frozen=True)
class _Request:
    """The checked options, and what runs them; ``genes`` is None for all genes."""

    options: UpsampleOptions
    settings: UpsampleSettings
    genes: Sequence[str] | None
    executor: Executor | None
    should_stop: CancelCheck


def _upsample(slide_path: Path, output: Path, request: _Request, report: ProgressCallback | None) -> dict[str, Any]:
    """Upsample one slide and return the summary to print."""
    from napari_srast import api
    from napari_srast.core.result import UpsampleResult
    from napari_srast.core.summary import summarize
    from napari_srast.io.result_writer import write_result
    from napari_srast.io.slide_reader import read_slide
    from napari_srast.io.spot_columns import read_spot_columns

    options, settings, genes = request.options, request.settings, request.genes
    slide = read_slide(slide_path, **options.elements)
    for notice in slide.notices:
        note(f"Note: {notice}")
    region = None if options.region is None else parse_region(options.region, slide.coordinate_system)
    into_store = has_suffix(output, ".zarr")
    expected = api.estimate(slide, region, genes, settings, into_store=into_store)
    note(
        f"{count(expected.n_spots, 'spot')}, {count(expected.n_pixels, 'pixel')}, {count(expected.n_genes, 'gene')}: "
        f"about {expected.seconds:.0f} s and {expected.memory_bytes / 1e9:.1f} GB."
    )
    saving = options.saving
    columns = saving.columns
    read_spot_columns(slide, columns)  # refuses missing columns before the run
    how: dict[str, Any] = {
        "settings": settings,
        "progress": report,
        "should_stop": request.should_stop,
        "executor": request.executor,
        "name": saving.name,
    }
    content: dict[str, Any] = {"keep_obs": columns, "include_histology": saving.include_histology}
    result: UpsampleMetadata
    if into_store:
        result = api.upsample_to_store(slide, output, region, genes, **how, **content)
    else:
        result = api.upsample(slide, region, genes, **how)
    for notice in result.provenance.get("notices", ()):
        if notice not in settings.ineffective_options:  # already printed
            note(f"Note: {notice}")
    if isinstance(result, UpsampleResult):
        write_result(result, output, progress=report, should_stop=request.should_stop, **content)
    figures = {**summarize(result), "output": str(output)}
    if saving.report is not None:
        from napari_srast.analysis.report.writer import write_report
        from napari_srast.io.result_reader import read_result

        described = result if isinstance(result, UpsampleResult) else read_result(output)
        figures["report"] = str(
            write_report(described, saving.report, progress=report, should_stop=request.should_stop)
        )
    return figures


def _check_report(report: Path, slides: Sequence[Path]) -> None:
    """Refuse a report that cannot be written, before the run."""
    if len(slides) > 1:
        raise SettingsError(
            "--report describes one result; leave it out, and run 'napari-srast report' on each of the results."
        )
    check_output(report, REPORT_SUFFIXES, inputs=tuple(slides))
    from napari_srast.evaluation.plots import figure_class

    figure_class()


def _upsample_all(
    slides: Sequence[Path],
    outputs: Sequence[Path],
    request: _Request,
    halt: threading.Event,
    *,
    at_once: int,
    as_json: bool,
) -> None:
    """Upsample several slides; an error in one slide does not stop the others.

    Raises
    ------
    InputError
        At least one slide failed because of its input; the others are written.
    InternalError
        At least one slide failed because of a bug in this package.
    Cancelled
        Ctrl-C was pressed; the message says how many results are written.
    """
    internal_errors = []

    def attempt(slide: Path, target: Path) -> dict[str, Any]:
        try:
            return {"slide": str(slide), **_upsample(slide, target, request, None)}
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - reported with the slide; the other slides go on
            status, sentence = explain(error)
            if status != _INPUT_ERROR:
                internal_errors.append(error)
            return {"slide": str(slide), "error": sentence}

    done = []
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for number, figures in enumerate(pool.map(attempt, slides, outputs), start=1):
                done.append(figures)
                note(f"{number} of {len(slides)}: {figures.get('output') or figures['error']}")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            halt.set()
            pool.shutdown()
            written = sum(target.exists() for target in outputs)
            raise Cancelled(f"Stopped; {written} of {len(slides)} results are written.") from None
    if as_json:
        print_json(done)
    failed = [f"'{figures['slide']}' ({figures['error']})" for figures in done if "error" in figures]
    if failed:
        kind = InternalError if internal_errors else InputError
        raise kind(f"{len(failed)} of {len(slides)} slides could not be upsampled: {'; '.join(failed)}")


def _outputs_in(folder: Path, slides: Sequence[Path]) -> list[Path]:
    """Return one output path per slide."""
    if has_suffix(folder, *RESULT_SUFFIXES) or (folder.exists() and not folder.is_dir()):
        raise OutputError(f"The output '{folder}' is a single file, but there are several slides; give a folder.")
    if not folder.parent.is_dir():
        raise OutputError(f"The folder '{folder.parent}' of the output does not exist; make it first.")
    names = [slide.resolve().stem for slide in slides]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(
            f"Two slides are named '{twice[0]}', so their results would have the same name; rename one of them."
        )
    return [folder / f"{name}.zarr" for name in names]


@contextmanager
def _executor(dask: str | None) -> Iterator[Executor | None]:
    """Yield an executor on a Dask cluster, or None for the cores of this computer."""
    if dask is None:
        yield None
        return
    from napari_srast.inference.executors.dask import DaskExecutor

    with DaskExecutor(dask) as executor:
        yield executor


def _shortened(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the summary with the values of a few genes only."""
    titles = {
        "skill": "skill, nats per count over a uniform split",
        "image_nats": "image, expected gain in nats per count",
    }
    for key, title in titles.items():
        if key not in figures:
            continue
        by_gene = figures.pop(key)
        shown = dict(list(by_gene.items())[:_SHOWN_GENES])
        if len(by_gene) > _SHOWN_GENES:
            shown["..."] = f"{len(by_gene) - _SHOWN_GENES} more, see --json"
        figures[title] = shown
    return figures
