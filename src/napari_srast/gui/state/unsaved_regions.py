"""Keep unsaved regions in files, so that they survive a crash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from napari_srast.errors import OutputError, RegionError
from napari_srast.io.annotations import Annotation, read_annotations, write_annotations

__all__ = ["UnsavedRegions"]


class UnsavedRegions:
    """Files with the unsaved regions of slides, one GeoJSON file for each slide.

    Parameters
    ----------
    folder
        Folder of the files; None for the one of the user's state.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            import platformdirs

            folder = platformdirs.user_state_path("napari-srast") / "unsaved_regions"
        self._folder = folder

    def file(self, slide: Path) -> Path:
        """Return the file for the store of a slide; its name is derived from the path of the store."""
        digest = hashlib.sha256(str(slide.resolve()).encode()).hexdigest()
        return self._folder / f"{digest[:24]}.geojson"

    def read(self, slide: Path) -> list[Annotation]:
        """Return the regions of a slide; none if all were saved.

        Raises
        ------
        RegionError
            The file cannot be read, or is damaged. It is renamed, so that the next regions do not replace it.
        """
        file = self.file(slide)
        if not os.path.lexists(file):
            return []
        try:
            return read_annotations(file)
        except RegionError as error:
            kept = file.with_suffix(".unreadable")
            try:
                file.replace(kept)
            except OSError:
                kept = file
            raise RegionError(
                f"Unsaved regions of an earlier session cannot be restored; their file is kept as '{kept}'. {error}"
            ) from error

    def write(self, slide: Path, annotations: Sequence[Annotation]) -> None:
        """Replace the stored regions of a slide; without regions, remove the file.

        Raises
        ------
        OutputError
            The disk is full, or its folder cannot be written.
        """
        file = self.file(slide)
        try:
            if not annotations:
                file.unlink(missing_ok=True)
                return
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"'{file.parent}' cannot be written ({error.strerror or error}).") from error
        write_annotations(annotations, file)
