"""Implement ``napari-srast info``: describe a slide, a model, or the cache of prepared slides."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from napari_srast._utils.serialize import to_json_values
from napari_srast.cli.output import print_figures, print_json
from napari_srast.errors import InputError, SettingsError
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


def describe_cache(target: str | None, *, clear: bool, as_json: bool) -> None:
    """Describe the cache of prepared slides, after clearing it if asked; there must be no other target."""
    from napari_srast.inference.fit_cache import FitCache

    if target is not None:
        raise SettingsError(f"--cache describes the cache, not '{target}'; leave one of them out.")
    cache = FitCache()
    if clear:
        cache.clear()
    use = cache.use()
    figures = {
        "folder": str(use.folder),
        "n_slides": use.n_slides,
        "megabytes": round(use.n_bytes / 1e6, 1),
        "max_megabytes": round(use.max_bytes / 1e6),
    }
    (print_json if as_json else print_figures)(figures)


def _shorten(figures: dict[str, Any]) -> dict[str, Any]:
    """Shorten the description: omit what the store lacks and list only a few genes."""
    if not figures["usable"]:
        return {key: figures[key] for key in ("path", "elements", "results", "usable", "problems", "notices")}
    more = figures["n_genes"] - _SHOWN_GENES
    genes = [*figures["genes"][:_SHOWN_GENES], *([f"and {more} more"] if more > 0 else [])]
    return {**figures, "genes": genes}
