"""``napari-srast info``: a slide or a model in plain words."""

from __future__ import annotations

from pathlib import Path

from napari_srast.cli.console import plain, print_figures, print_json
from napari_srast.errors import InputError


def run(target: str, *, as_json: bool) -> None:
    """Describe a store (a folder, or a path that ends in .zarr) or a model (any other name or file)."""
    path = Path(target)
    if path.suffix in (".h5ad", ".h5"):
        raise InputError(
            f"'{target}' is a table, not a slide; make one with: napari-srast import {target} -o SLIDE.zarr"
        )
    if path.is_dir() or path.suffix == ".zarr":
        from napari_srast.io.slides import describe_slide

        figures = plain(describe_slide(path))
    else:
        from napari_srast.models.checkpoint import describe_checkpoint

        figures = plain(describe_checkpoint(target))
    (print_json if as_json else print_figures)(figures)
