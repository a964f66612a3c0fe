"""What went wrong, to be copied and sent: versions, settings and where in the code, and nothing of the slide itself.

Names of genes, elements and files, places and counts could tell whose tissue it is. They reach a report by the messages
of errors, so a message is copied only where its class speaks of the machine or of this package, never of the slide.
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
_LEFT_OUT = "its message is left out: it may name what is in the slide"
_MOST_FRAMES = 30


@dataclass(frozen=True, kw_only=True)
class ErrorContext:
    """What was worked on when something failed.

    Parameters
    ----------
    slide
        The slide; only its sizes are told.
    settings
        How it was run.
    n_genes
        Number of genes that were asked for; None for all.
    """

    slide: Slide
    settings: UpsampleSettings
    n_genes: int | None = None


def error_report(
    error: BaseException, doing: str, last: Progress | None = None, circumstances: ErrorContext | None = None
) -> str:
    """Return a report of an error without any name, path, place or count of the slide.

    Parameters
    ----------
    error
        What was raised.
    doing
        What the window was doing, in words of its own.
    last
        The last step that was told before.
    circumstances
        What was worked on.
    """
    step = "" if last is None else f", at step '{last.stage}' ({last.done} of {last.total} done)"
    lines = ["napari-srast: report of an error", "", f"Failed: {doing}{step}", *_errors(error), ""]
    if circumstances is not None:
        lines += [f"Settings: {_settings(circumstances.settings)}", f"Slide: {_sizes(circumstances)}"]
    lines += [
        f"System: {platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores",
        f"Versions: {', '.join(_versions())}",
        "",
        "Left out on purpose: names of genes, elements and files, places, counts.",
    ]
    return "\n".join(lines)


def _errors(error: BaseException) -> Iterator[str]:
    """Tell an error and those that it came from, with modules and lines in place of paths and code."""
    following: BaseException | None = error
    before = ""
    while following is not None:
        yield f"{before}{type(following).__module__}.{type(following).__qualname__}: {_message(following)}"
        frames = [*traceback.walk_tb(following.__traceback__)]
        for frame, line in frames[-_MOST_FRAMES:]:
            yield f"  {frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}"
        implied = None if following.__suppress_context__ else following.__context__
        following, before = following.__cause__ or implied, "because of "


def _message(error: BaseException) -> str:
    if isinstance(error, DeviceError | InternalError | MemoryError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return _LEFT_OUT


def _settings(settings: UpsampleSettings) -> str:
    told = asdict(settings)
    if settings.model != UpsampleSettings.model:
        told["model"] = "(not the default)"  # the name of a file
    return ", ".join(f"{name}={value}" for name, value in told.items())


def _sizes(circumstances: ErrorContext) -> str:
    slide, n_genes = circumstances.slide, circumstances.n_genes
    asked = "" if n_genes is None else f", {n_genes} of them asked for"
    image = "no image" if slide.image is None else f"image {slide.image.levels[0].shape} {slide.image.levels[0].dtype}"
    return f"{slide.n_spots} spots, {slide.n_genes} genes{asked}, {image}, {len(slide.transforms)} coordinate systems"


def _versions() -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
