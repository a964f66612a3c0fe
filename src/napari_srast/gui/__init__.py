"""The dock widget; the only part that imports napari or Qt."""
