"""Open the source of a slide of any kind without writing a store first, through the same readers as the import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast.errors import InputError, translate_memory_errors
from napari_srast.io.file_kinds import file_kind, is_result_table

if TYPE_CHECKING:
    import spatialdata

__all__ = ["open_slide_source"]


@translate_memory_errors("while reading the slide", "take a smaller one")
def open_slide_source(
    path: str | Path, *, library: str | None = None, counts: str | None = None
) -> Path | spatialdata.SpatialData:
    """Return what a slide can be read from: the path of a store or of a result, or a table converted in memory.

    Parameters
    ----------
    path
        A SpatialData store, an ``.h5ad`` file, a Space Ranger folder, or a result of this package.
    library, counts
        Section and matrix of counts to convert, as for the import; a store is converted with neither.

    Raises
    ------
    InputError
        The path is none of these, or it cannot be read.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind == "store" or (kind == "h5ad" and is_result_table(path)):
        return path
    if kind == "h5ad":
        from napari_srast.io.convert.h5ad import read_h5ad

        return read_h5ad(path, library=library, counts=counts)
    if kind == "space_ranger":
        from napari_srast.io.convert.space_ranger.reader import read_space_ranger

        return read_space_ranger(path, library=library)
    if not path.exists():
        raise InputError(f"There is nothing at '{path}'; check the path.")
    raise InputError(
        f"'{path}' is neither a SpatialData store with spots and a table, nor an .h5ad file, nor a folder of Space "
        "Ranger; give one of these."
    )
