"""Open SpatialData stores, with errors that name the next step, and write new stores."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_srast._utils.text import first_line
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.errors import InputError, is_memory_error
from napari_srast.io.convert.space_ranger.layout import is_space_ranger
from napari_srast.io.file_kinds import has_suffix, is_anndata_store, missing_path, store_part_problem
from napari_srast.io.foreign_files import explain_file, explain_folder
from napari_srast.io.safety_limits import check_store
from napari_srast.io.table_reader import read_store_without_damaged_results
from napari_srast.io.zarr_writes import reported_blocks, settled_writes

if TYPE_CHECKING:
    import spatialdata

__all__ = [
    "element_name",
    "full_resolution",
    "open_store",
    "quiet_writing",
    "write_store",
]

_MAX_NAMED_ELEMENTS = 3  # in one message; a store may contain thousands of damaged elements
_MAX_REASON_LENGTH = 300  # characters


def open_store(path: str | Path) -> tuple[spatialdata.SpatialData, tuple[str, ...]]:
    """Open a SpatialData store lazily.

    Parameters
    ----------
    path
        The store.

    Returns
    -------
    tuple
        The store, and one notice for each element that was skipped because it is damaged or half-written; after the
        third, one notice counts the others.

    Raises
    ------
    InputError
        The path is missing, is not a SpatialData store, or cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(missing_path(path, "slide"))
    problem = store_part_problem(path)
    if problem is not None:
        raise InputError(problem)
    if has_suffix(path, ".h5ad", ".h5") or is_anndata_store(path) or is_space_ranger(path):
        raise InputError(
            f"'{path}' is not a SpatialData store yet; convert it with: napari-srast import '{path}' -o SLIDE.zarr"
        )
    if not path.is_dir() or not any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")):
        known = explain_folder(path) if path.is_dir() else explain_file(path) if path.is_file() else None
        raise InputError(
            known or f"'{path}' is not a SpatialData store (a .zarr folder); choose another path or import it first."
        )

    check_store(path)

    import spatialdata

    damaged: tuple[str, ...] = ()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            store = spatialdata.read_zarr(path, on_bad_files="warn")
            for name, message in _skipped_elements(caught):
                if name.startswith("tables/") and (path / name).is_dir():  # SpatialData 0.8 leaves out tables, too
                    raise ValueError(message)
        except Exception as error:
            if is_memory_error(error):  # the store may be fine
                raise
            caught.clear()
            try:
                store, damaged = read_store_without_damaged_results(path)
            except Exception as other:
                if is_memory_error(other):
                    raise
            if not damaged:
                raise InputError(
                    f"'{path}' cannot be read as a SpatialData store ({_describe_invalid(error)}); "
                    "it may be only half-written, so write it again."
                ) from error
    skipped = damaged + tuple(
        f"'{name}' of the store is damaged or half-written and was left out; write it again or delete it."
        for name, _ in _skipped_elements(caught)
    )
    n_more = len(skipped) - _MAX_NAMED_ELEMENTS
    if n_more > 1:
        more = f"{n_more:,} more elements of the store are damaged or half-written and were left out."
        skipped = (*skipped[:_MAX_NAMED_ELEMENTS], more)
    if not any(store.gen_elements()):
        detail = f" ({n_more + _MAX_NAMED_ELEMENTS:,} damaged elements were skipped)" if skipped else ""
        raise InputError(f"'{path}' holds no readable SpatialData element{detail}; write the slide again.")
    return store, skipped


@contextlib.contextmanager
def quiet_writing() -> Iterator[None]:
    """Suppress warnings of the writing libraries about their future defaults, on which users cannot act."""
    with warnings.catch_warnings():
        for module in ("anndata", "zarr", "spatialdata", "ome_zarr"):
            warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
        warnings.filterwarnings("ignore", message="zarr v3 autosharding")
        warnings.filterwarnings("ignore", message="Object at .* is not recognized as a component of a Zarr hierarchy")
        yield


def write_store(
    store: spatialdata.SpatialData,
    path: Path,
    fill: Callable[[], None] | None = None,
    monitor: RunMonitor = NO_MONITOR,
) -> None:
    """Write a new store with consolidated metadata.

    The path of the SpatialData object is not changed.

    Parameters
    ----------
    store
        The SpatialData object.
    path
        Path of the new store.
    fill
        Called after the elements were written and before their metadata are consolidated, to write large arrays.
    monitor
        Receives the progress of the images, and cancels.
    """
    import zarr

    sizes = [full_resolution(store.images[name]).size for name in store.images]
    with quiet_writing(), settled_writes(), reported_blocks(monitor, "writing", sizes):
        store.write(path, update_sdata_path=False)
        if fill is not None:
            fill()
        zarr.consolidate_metadata(zarr.storage.LocalStore(path))  # SpatialData omits it when it keeps its path


def _skipped_elements(caught: Iterable[warnings.WarningMessage]) -> list[tuple[str, str]]:
    """Return the elements that SpatialData left out, such as ``images/he``, with the reasons."""
    messages = [str(warning.message) for warning in caught]
    matches = [re.match(r"(\w+/[^:\s]+):", message) for message in messages]
    return [(match.group(1), message) for match, message in zip(matches, messages, strict=True) if match]


def _describe_invalid(error: Exception) -> str:
    """Return the first few invalid elements that an error of SpatialData lists, or else its first line."""
    invalid = re.findall(r"^\s+(\w+/[^:\s]+: .*[^.\s])\.?\s*$", str(error), re.MULTILINE)
    reasons = [
        text if len(text) <= _MAX_REASON_LENGTH else f"{text[:_MAX_REASON_LENGTH]}…"
        for text in invalid or [first_line(error)]
    ]
    n_more = len(reasons) - _MAX_NAMED_ELEMENTS
    return "; ".join(reasons[:_MAX_NAMED_ELEMENTS]) + (f"; and {n_more:,} more elements" if n_more > 0 else "")


def full_resolution(element: Any) -> Any:
    """Return the level with the highest resolution of an image or labels, multiscale or not."""
    return next(iter(element.values()))["image"] if hasattr(element, "children") else element


def element_name(text: str) -> str:
    """Convert a text to a valid SpatialData element name: letters, digits and ``_ . -``, not starting with ``__``.

    Parameters
    ----------
    text
        The text.

    Examples
    --------
    >>> element_name("H&E, slide 1.jpg")
    'H_E_slide_1.jpg'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("._") or "element"
