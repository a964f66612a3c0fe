"""Implement ``napari-srast info``: describe a slide or a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from napari_srast._utils.serialize import to_json_values
from napari_srast.cli.output import print_figures, print_json
from napari_srast.errors import InputError
from napari_srast.io.file_kinds import has_suffix

_SHOWN_GENES = 8


def run(target: str, *, as_json: bool, **choices: str | None) -> None:
    """Describe a store (a folder or a path that ends in .zarr) or a model (a name or a file)."""
    path = Path(target)
    if os.path.isfile(path):  # Path.is_file raises for a name that is too long
        from napari_srast.io.foreign_files import explain_file

        explanation = explain_file(path)
        if explanation is not None:
            raise InputError(explanation)
    elif path.suffix.casefold() not in ("", ".zarr", ".safetensors") and not os.path.exists(path):
        raise InputError(f"There is nothing at '{target}'; check the path.")
    if path.is_dir() or has_suffix(path, ".zarr"):
        from napari_srast.io.slide_description import describe_slide

        figures = to_json_values(describe_slide(path, **choices))
        if not as_json:
            figures = _shorten(figures)
    else:
        from napari_srast.checkpoints.storage import describe_checkpoint

        figures = to_json_values(describe_checkpoint(target))
    (print_json if as_json else print_figures)(figures)


def _shorten(figures: dict[str, Any]) -> dict[str, Any]:
    """Shorten the description: omit what the store lacks and list only a few genes."""
    if not figures["usable"]:
        return {key: figures[key] for key in ("path", "elements", "results", "usable", "problems", "notices")}
    more = figures["n_genes"] - _SHOWN_GENES
    genes = [*figures["genes"][:_SHOWN_GENES], *([f"and {more} more"] if more > 0 else [])]
    return {**figures, "genes": genes}
