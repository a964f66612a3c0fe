"""Upsample slides: the public functions of the package.

:func:`upsample` returns a result in memory, :func:`upsample_to_store` writes it to a store while it is computed. Both
run the same engine, :func:`napari_srast.inference.runner.run_upsampling`, with a different result sink.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_srast.core.progress import CancelCheck, Progress, ProgressCallback, RunMonitor, iterate_progress
from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleMetadata, UpsampleResult
from napari_srast.core.run_name import check_run_name
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.sinks import InMemorySink
from napari_srast.core.slide import Slide
from napari_srast.errors import OutputError, SettingsError
from napari_srast.inference.job import UpsampleRequest
from napari_srast.inference.run_estimate import Estimate, estimate

if TYPE_CHECKING:
    from napari_srast.inference.executors.base import Executor
    from napari_srast.io.spot_columns import SpotColumns

__all__ = ["Estimate", "estimate", "upsample", "upsample_steps", "upsample_to_store"]


def upsample(
    slide: Slide,
    region: Region | None = None,
    genes: Sequence[str] | None = None,
    *,
    settings: UpsampleSettings | None = None,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
    executor: Executor | None = None,
    name: str | None = None,
    **options: Any,
) -> UpsampleResult:
    """Divide the counts of every spot among finer pixels, and conserve them exactly.

    Parameters
    ----------
    slide
        The slide, such as :func:`napari_srast.read_slide` returns.
    region
        Spots whose centers are inside it are upsampled, with the whole slide as context. None (default): all spots.
    genes
        Gene names. None (default): all genes of the slide.
    settings
        All settings. None (default): the settings are given as keywords.
    progress
        Called with a :class:`~napari_srast.core.progress.Progress` after every step, from the calling thread. An
        exception that it raises ends the run.
    should_stop
        Called often, also from worker threads; the run ends once it returns True.
    executor
        Computes the tiles: a :class:`napari_srast.inference.executors.local.ThreadExecutor` or a
        :class:`napari_srast.inference.executors.dask.DaskExecutor`. None (default): all cores of this computer. It
        changes no byte of the result.
    name
        Name of the run: letters, digits and underscores. None (default): date and time.
    **options
        Settings as keywords, such as ``factor=4, mode="mean", seed=0``; see
        :class:`~napari_srast.core.settings.UpsampleSettings`.

    Returns
    -------
    UpsampleResult
        Counts of the pixels, shape (n_pixels, n_genes), with their raster and provenance.

    Raises
    ------
    SrastError
        The input or a setting cannot be used; the message names the next step.
    Cancelled
        ``should_stop`` returned True.

    Examples
    --------
    >>> import napari_srast as srast
    >>> slide = srast.synthetic_colon()  # doctest: +SKIP
    >>> result = srast.upsample(slide, genes=["ERBB2"], factor=4)  # doctest: +SKIP
    """
    request = UpsampleRequest(
        slide=slide, region=region, genes=genes, settings=_settings(settings, options), name=check_run_name(name)
    )
    return _upsample_in_memory(request, executor, RunMonitor(on_progress=progress, should_stop=should_stop))


def upsample_to_store(
    slide: Slide,
    path: str | Path,
    region: Region | None = None,
    genes: Sequence[str] | None = None,
    *,
    settings: UpsampleSettings | None = None,
    include_image: bool = True,
    include_histology: bool = True,
    keep_obs: SpotColumns = (),
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
    executor: Executor | None = None,
    name: str | None = None,
    **options: Any,
) -> UpsampleMetadata:
    """Upsample a slide and write the result to a store while it is computed.

    The store has the content that :func:`upsample` and :func:`napari_srast.write_result` would give, but the result is
    never in memory as a whole. The store appears under its name once all counts are written and validated; a run that
    ends early leaves nothing.

    Parameters
    ----------
    slide, region, genes, settings, progress, should_stop, executor, name, **options
        As for :func:`upsample`.
    path
        Path of the new store; it ends in ``.zarr``.
    include_image
        Whether the store contains images of the genes next to the labels and circles of the pixels and the table.
        Default: True.
    include_histology
        Whether the store contains the histology of the slide, so that it can be shown without the slide. Default: True.
    keep_obs
        Columns of the spots, in the table of the slide, that the result repeats for the pixels; "all" for all. Default:
        none.

    Returns
    -------
    UpsampleMetadata
        Description of the result, without the counts.

    Raises
    ------
    SrastError
        The input, a setting or the output cannot be used; the message names the next step.
    Cancelled
        ``should_stop`` returned True.

    Examples
    --------
    >>> import napari_srast as srast
    >>> slide = srast.synthetic_colon()  # doctest: +SKIP
    >>> metadata = srast.upsample_to_store(slide, "fine.zarr", factor=4)  # doctest: +SKIP
    """
    from napari_srast.inference.runner import run_upsampling
    from napari_srast.io.atomic import WriteRefused, atomic_output, refuse_inside
    from napari_srast.io.result_elements import StoreContent
    from napari_srast.io.spot_columns import read_spot_columns
    from napari_srast.io.streaming_writer import StreamingResultWriter

    path = Path(path)
    request = UpsampleRequest(
        slide=slide, region=region, genes=genes, settings=_settings(settings, options), name=check_run_name(name)
    )
    if path.suffix.casefold() != ".zarr":
        raise OutputError(f"'{path}' is not the name of a store; let it end in .zarr.")
    if slide.source.path is not None:
        refuse_inside(path, Path(slide.source.path))
    content = StoreContent(
        include_image=include_image,
        include_histology=include_histology,
        spot_columns=read_spot_columns(slide, keep_obs),
    )
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    with (
        atomic_output(path, refusal=WriteRefused) as partial,
        StreamingResultWriter(partial, content) as sink,
    ):
        return run_upsampling(request, sink, executor, monitor)


def upsample_steps(
    slide: Slide,
    region: Region | None,
    genes: Sequence[str] | None,
    settings: UpsampleSettings,
    *,
    should_stop: CancelCheck | None = None,
    executor: Executor | None = None,
) -> Generator[Progress, None, UpsampleResult]:
    """Run :func:`upsample` as a generator that yields its progress and returns its result.

    The run waits while the generator is not advanced, and ends when the generator is closed.

    Parameters
    ----------
    slide, region, genes, settings, should_stop, executor
        As for :func:`upsample`.

    Yields
    ------
    Progress
        Progress of the run; the generator returns the :class:`~napari_srast.core.result.UpsampleResult`.
    """
    request = UpsampleRequest(slide=slide, region=region, genes=genes, settings=settings)
    return iterate_progress(lambda monitor: _upsample_in_memory(request, executor, monitor), should_stop)


def _upsample_in_memory(request: UpsampleRequest, executor: Executor | None, monitor: RunMonitor) -> UpsampleResult:
    from napari_srast.inference.runner import run_upsampling

    with InMemorySink() as sink:
        return run_upsampling(request, sink, executor, monitor)


def _settings(settings: UpsampleSettings | None, options: dict[str, Any]) -> UpsampleSettings:
    """Return the settings, given as such or as keywords."""
    if settings is not None and options:
        raise SettingsError("Give either settings or keywords, not both.")
    if settings is not None:
        return settings
    try:
        return UpsampleSettings(**options)
    except TypeError as error:
        names = ", ".join(UpsampleSettings.__dataclass_fields__)
        raise SettingsError(f"Unknown option ({error}); the options are: {names}.") from error
