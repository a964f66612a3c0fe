"""Opening SpatialData stores with errors a user can act on, and writing new ones."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast._utils.text import one_line
from napari_srast.errors import InputError, is_memory_error
from napari_srast.io.safety_limits import check_store
from napari_srast.io.zarr_writes import settled_writes

if TYPE_CHECKING:
    import spatialdata

__all__ = [
    "element_name",
    "open_store",
    "quiet_writing",
    "write_store",
]

_MOST_NAMED = 3  # damaged elements; a store may hold thousands
_MOST_LETTERS = 300  # of what is said of one


def open_store(path: str | Path) -> tuple[spatialdata.SpatialData, tuple[str, ...]]:
    """Open a SpatialData store lazily.

    Returns
    -------
    tuple
        The store, and one sentence for each element that was skipped because it is damaged or half-written.

    Raises
    ------
    InputError
        The path is missing, is not a SpatialData store, or cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no slide at '{path}'; check the path.")
    if path.suffix == ".h5ad" or _looks_like_space_ranger(path):
        raise InputError(
            f"'{path}' is not a SpatialData store yet; convert it with: napari-srast import '{path}' -o SLIDE.zarr"
        )
    if not path.is_dir() or not any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")):
        raise InputError(
            f"'{path}' is not a SpatialData store (a .zarr folder); choose another path or import it first."
        )

    check_store(path)

    import spatialdata

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            store = spatialdata.read_zarr(path, on_bad_files="warn")
        except Exception as error:
            if is_memory_error(error):  # the store is not to blame
                raise
            raise InputError(
                f"'{path}' cannot be read as a SpatialData store ({_what_is_wrong(error)}); "
                "it may be only half-written, so write it again."
            ) from error
    skipped = tuple(
        f"'{match.group(1)}' of the store is damaged or half-written and was left out; write it again or delete it."
        for match in (re.match(r"(\w+/[^:\s]+):", str(warning.message)) for warning in caught)
        if match
    )
    n_more = len(skipped) - _MOST_NAMED
    if n_more > 1:
        more = f"{n_more:,} more elements of the store are damaged or half-written and were left out."
        skipped = (*skipped[:_MOST_NAMED], more)
    if not any(store.gen_elements()):
        detail = f" ({n_more + _MOST_NAMED:,} damaged elements were skipped)" if skipped else ""
        raise InputError(f"'{path}' holds no readable SpatialData element{detail}; write the slide again.")
    return store, skipped


@contextlib.contextmanager
def quiet_writing() -> Iterator[None]:
    """Keep the writers' warnings on their own future defaults from users, who can do nothing about them."""
    with warnings.catch_warnings():
        for module in ("anndata", "zarr", "spatialdata", "ome_zarr"):
            warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
        warnings.filterwarnings("ignore", message="zarr v3 autosharding")
        warnings.filterwarnings("ignore", message="Object at .* is not recognized as a component of a Zarr hierarchy")
        yield


def write_store(store: spatialdata.SpatialData, path: Path, fill: Callable[[], None] | None = None) -> None:
    """Write a new store, with the metadata of all elements in its root, without changing what the object points to.

    Parameters
    ----------
    store
        What to write.
    path
        Where.
    fill
        Puts the large parts of its elements into the store, before their metadata are collected.
    """
    import zarr

    with quiet_writing(), settled_writes():
        store.write(path, update_sdata_path=False)
        if fill is not None:
            fill()
        zarr.consolidate_metadata(zarr.storage.LocalStore(path))  # SpatialData leaves it out for such a copy


def _looks_like_space_ranger(path: Path) -> bool:
    return path.is_dir() and ((path / "spatial").is_dir() or (path / "binned_outputs").is_dir())


def _what_is_wrong(error: Exception) -> str:
    """Name a few elements that SpatialData calls invalid, which it does below its first line; else give that line."""
    invalid = re.findall(r"^\s+(\w+/[^:\s]+: .*[^.\s])\.?\s*$", str(error), re.MULTILINE)
    told = [text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…" for text in invalid or [one_line(error)]]
    left = len(told) - _MOST_NAMED
    return "; ".join(told[:_MOST_NAMED]) + (f"; and {left:,} more elements" if left > 0 else "")


def element_name(text: str) -> str:
    """Make a valid SpatialData element name of any text: letters, digits and ``_ . -`` only, not starting with ``__``.

    >>> element_name("H&E, slide 1.jpg")
    'H_E_slide_1.jpg'
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("._") or "element"
    return name
