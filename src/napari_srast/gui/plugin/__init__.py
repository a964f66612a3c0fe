"""Contributions to napari's menus: readers and writers of files."""
