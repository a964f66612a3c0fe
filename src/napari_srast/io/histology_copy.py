"""Build an image element from the histology of a slide, so that a result can be shown without the slide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.core.slide import Slide
from napari_srast.io.image_levels import join_levels
from napari_srast.io.result_images import DeferredErrors
from napari_srast.io.store import element_name
from napari_srast.io.transforms import to_affines

if TYPE_CHECKING:
    from xarray import DataArray, DataTree

__all__ = ["histology_element", "histology_name"]

_CHUNK = 1024  # rows and columns


def histology_name(slide: Slide) -> str | None:
    """Return the name that the histology of a slide has in the store of a result; None if there is no histology."""
    return None if slide.image is None else element_name(slide.image.name)


def histology_element(slide: Slide, progress: DeferredErrors | None = None) -> DataArray | DataTree:
    """Build a lazy element from the histology of a slide, with its levels, channels and coordinates.

    Parameters
    ----------
    slide
        A slide with histology.
    progress
        Receives a report before each block of the image.
    """
    import dask.array as da
    from spatialdata.models import Image2DModel

    assert slide.image is not None
    image = slide.image
    channels = list(image.channels) or None
    transformations = to_affines(slide.transforms, first=np.asarray(image.to_intrinsic[0]))

    def unless_stopped(block: np.ndarray) -> np.ndarray:
        if progress is not None:
            progress.repeat()  # an error is raised after all threads have ended
        return block

    def level(values: Any) -> DataArray:
        n_channels = values.shape[0]
        array = da.asarray(values).rechunk((n_channels, _CHUNK, _CHUNK))
        if progress is not None:
            array = array.map_blocks(unless_stopped, dtype=array.dtype, meta=np.empty((0, 0, 0), dtype=array.dtype))
        return Image2DModel.parse(array, dims=("c", "y", "x"), c_coords=channels, transformations=transformations)

    return join_levels([level(values) for values in image.levels], transformations, Image2DModel)
