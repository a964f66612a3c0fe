"""Write an error report that the user can send: versions, settings and code locations, but no data of the slide.

Names of genes, elements and files, coordinates and counts could identify a patient. Error messages may contain them, so
a message is included only if its class describes the computer or this package, never the slide.
"""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from napari_srast.core.progress import Progress
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import DeviceError, InternalError

__all__ = ["ErrorContext", "error_report"]

_PACKAGES = (
    "napari-srast",
    "napari",
    "PyQt6",
    "PySide6",
    "spatialdata",
    "anndata",
    "zarr",
    "dask",
    "numpy",
    "scipy",
    "torch",
    "torch-geometric",
)
_NO_MESSAGE = "message left out because it may contain data of the slide"
_MAX_FRAMES = 30


@dataclass(frozen=True, kw_only=True)
class ErrorContext:
    """Slide and settings of the task that failed.

    Parameters
    ----------
    slide
        The slide; the report contains only its sizes.
    settings
        Settings of the run.
    n_genes
        Number of chosen genes; None for all.
    """

    slide: Slide
    settings: UpsampleSettings
    n_genes: int | None = None


def error_report(
    error: BaseException, activity: str, progress: Progress | None = None, context: ErrorContext | None = None
) -> str:
    """Return a report of an error without any name, path, coordinate or count of the slide.

    Parameters
    ----------
    error
        The exception.
    activity
        What failed, such as "opening the slide".
    progress
        Last progress before the error; None if there was none.
    context
        Slide and settings; None if no slide was involved.
    """
    step = "" if progress is None else f", at step '{progress.stage}' ({progress.done} of {progress.total} done)"
    lines = ["napari-srast: report of an error", "", f"Failed: {activity}{step}", *_exception_chain(error), ""]
    if context is not None:
        lines += [f"Settings: {_settings(context.settings)}", f"Slide: {_sizes(context)}"]
    lines += [
        f"System: {platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores",
        f"Versions: {', '.join(_versions())}",
        "",
        "Left out on purpose: names of genes, elements and files, coordinates, counts.",
    ]
    return "\n".join(lines)


def _exception_chain(error: BaseException) -> Iterator[str]:
    """Yield the exception and its causes, with module names and line numbers instead of paths and source code."""
    current: BaseException | None = error
    prefix = ""
    while current is not None:
        yield f"{prefix}{type(current).__module__}.{type(current).__qualname__}: {_message(current)}"
        frames = [*traceback.walk_tb(current.__traceback__)]
        for frame, line in frames[-_MAX_FRAMES:]:
            yield f"  {frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}"
        context = None if current.__suppress_context__ else current.__context__
        current, prefix = current.__cause__ or context, "because of "


def _message(error: BaseException) -> str:
    if isinstance(error, DeviceError | InternalError | MemoryError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return _NO_MESSAGE


def _settings(settings: UpsampleSettings) -> str:
    values = asdict(settings)
    if settings.model != UpsampleSettings.model:
        values["model"] = "(not the default)"  # a file name
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _sizes(context: ErrorContext) -> str:
    slide, n_genes = context.slide, context.n_genes
    chosen = "" if n_genes is None else f", {n_genes} of them chosen"
    image = "no image" if slide.image is None else f"image {slide.image.levels[0].shape} {slide.image.levels[0].dtype}"
    return f"{slide.n_spots} spots, {slide.n_genes} genes{chosen}, {image}, {len(slide.transforms)} coordinate systems"


def _versions() -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
