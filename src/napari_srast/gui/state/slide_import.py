"""Convert files of other programs to a store that the window opens, with the code of ``napari-srast import``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.errors import ChoiceError
from napari_srast.gui.state.slide_loading import LoadedSlide, load
from napari_srast.io.file_kinds import file_kind, is_result_table

__all__ = ["IMAGE_SUFFIXES", "ImportRequest", "needs_import", "states_alignment", "suggest_import", "user_path"]

_IMAGE_ENDINGS = ("_he", "_HE", "", "_image")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What to convert, and where to.

    Parameters
    ----------
    source
        An ``.h5ad`` file or a Space Ranger folder.
    store
        The store to create.
    image
        Histology image; None for none, or for the one that a Space Ranger folder has.
    pixel_size
        Side of a pixel of the image in the unit of the spots; None if the source states how the image is aligned.
    """

    source: Path
    store: Path
    image: Path | None = None
    pixel_size: float | None = None

    def load(
        self, monitor: RunMonitor = NO_MONITOR, *, library: str | None = None, counts: str | None = None
    ) -> LoadedSlide:
        """Convert the source and read the store, in a background thread.

        Parameters
        ----------
        monitor
            Receives the progress, and cancels; then no store is left.
        library, counts
            Section and matrix of counts, as for the import.

        Raises
        ------
        SrastError
            The source or the image cannot be used, or the store exists or cannot be written.
        """
        from napari_srast.io.convert.importer import import_slide

        written = import_slide(
            self.source,
            self.store,
            image=self.image,
            pixel_size=self.pixel_size,
            library=library,
            counts=counts,
            progress=monitor.on_progress,
            should_stop=monitor.should_stop,
        )
        try:
            return load(written)
        except ChoiceError as error:  # several images; the panel lists them
            if error.option != "image":
                raise
            return load(written, image=error.names[0])


def user_path(text: str | Path) -> Path:
    """Return a typed path; "~" is the home folder, unless no user of that name exists."""
    return Path(os.path.expanduser(text))  # ``Path.expanduser`` would raise for an unknown user


def needs_import(path: Path) -> bool:
    """Return whether a path is converted before it is opened: a table that is no result, or a Space Ranger folder."""
    kind = file_kind(path)
    return kind == "space_ranger" or (kind == "h5ad" and not is_result_table(path))


def states_alignment(path: Path) -> bool:
    """Return whether a source states where an image is: Space Ranger folders, and tables with spots in its pixels."""
    if path.is_dir():
        return True
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "obsm/spatial_px" in file
    except OSError:
        return True  # the import reports what is wrong with the file


def suggest_import(source: Path) -> ImportRequest:
    """Suggest a store next to the source that does not exist, and an image of the same name if there is one."""
    stem = source.name.removesuffix(".h5ad")
    numbers = ("", *(f"_{number}" for number in range(2, 1000)))
    store = next(one for number in numbers if not (one := source.with_name(f"{stem}{number}.zarr")).exists())
    images = (source.with_name(f"{stem}{end}{suffix}") for end in _IMAGE_ENDINGS for suffix in IMAGE_SUFFIXES)
    image = None if source.is_dir() else next((one for one in images if one.is_file()), None)
    return ImportRequest(source=source, store=store, image=image)
