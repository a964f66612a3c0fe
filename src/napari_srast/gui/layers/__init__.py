"""napari layers of a slide, its region and its results."""
