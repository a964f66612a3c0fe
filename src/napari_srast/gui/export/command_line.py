"""Write the command line that computes a result again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields

from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import EXPRESSION_CHOICES, UpsampleSettings
from napari_srast.errors import InputError

__all__ = ["command_line"]


def command_line(result: UpsampleResult, output: str = "result.zarr") -> str:
    """Return the ``napari-srast upsample`` command that computes a result again, byte-identical on the same device.

    The command has all options that affect the result, except settings with their default value.

    Parameters
    ----------
    result
        The result.
    output
        Path of the output.

    Raises
    ------
    InputError
        The slide was not read from a store, its image was moved, or the name of a gene cannot be written in a list.
    """
    source, settings, region = result.slide.source, result.settings, result.region
    if source.path is None:
        raise InputError("The slide was not read from a store, so no command can read it; write it to a store first.")
    image = result.slide.image
    if image is not None and any(image.moved):
        raise InputError(
            "The image was moved in the window, and the store of the slide has its old position: no command computes "
            "this result; export it as a new store, which has the moved image."
        )
    parts = ["napari-srast", "upsample", source.path, "-o", output]
    for option, name in (("--spots", source.spots), ("--table", source.table)):
        if name is not None:
            parts += [option, name]
    parts += ["--image", source.image or "none"]
    for option, chosen in (
        ("--library", source.library),
        ("--counts", source.counts),
        ("--spot-shape", source.spot_shape),
    ):
        if chosen is not None:
            parts += [option, chosen]
    system = result.slide.coordinate_system
    if region is not None:
        system = region.coordinate_system
        parts += ["--region", region.wkt]
    parts += ["--coordinate-system", system]
    names = [str(gene) for gene in result.genes]
    if len(names) < result.slide.n_genes:
        parts += ["--genes", _list_of_genes(names, reserved=("all",))]
    for setting in fields(UpsampleSettings):
        value = getattr(settings, setting.name)
        if value == setting.default or (setting.name == "factor" and settings.pixel_size is not None):
            continue
        if isinstance(value, tuple):
            text = _list_of_genes(value, reserved=EXPRESSION_CHOICES)
        else:
            text = repr(value) if isinstance(value, float) else str(value)
        parts += [f"--{setting.name.replace('_', '-')}", text]
    return shlex.join(parts)


def _list_of_genes(names: Sequence[str], reserved: Sequence[str]) -> str:
    """Return names as a value of an option; ``reserved`` are values with another meaning."""
    unlistable = [name for name in names if "," in name or name.startswith("@") or name != name.strip()]
    unlistable += [name for name in names if name in reserved and len(names) == 1]
    if unlistable:
        raise InputError(f"Gene '{unlistable[0]}' cannot be written in a list of genes; run all genes, or use Python.")
    return ",".join(names)
