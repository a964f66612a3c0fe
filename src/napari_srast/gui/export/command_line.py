"""Write the command line that computes a result again."""

from __future__ import annotations

import shlex
from dataclasses import fields

from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
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
        The slide was not read from a store, or the name of a gene cannot be written in a list.
    """
    source, settings, region = result.slide.source, result.settings, result.region
    if source.path is None:
        raise InputError("The slide was not read from a store, so no command can read it; write it to a store first.")
    parts = ["napari-srast", "upsample", source.path, "-o", output]
    for option, name in (("--spots", source.spots), ("--table", source.table)):
        if name is not None:
            parts += [option, name]
    parts += ["--image", source.image or "none"]
    system = result.slide.coordinate_system
    if region is not None:
        system = region.coordinate_system
        parts += ["--region", region.wkt]
    parts += ["--coordinate-system", system]
    names = [str(gene) for gene in result.genes]
    if len(names) < result.slide.n_genes:
        unlistable = [n for n in names if "," in n or n.startswith("@") or n == "all" or n != n.strip()]
        if unlistable:
            raise InputError(
                f"Gene '{unlistable[0]}' cannot be written in a list of genes; run all genes, or use Python."
            )
        parts += ["--genes", ",".join(names)]
    for setting in fields(UpsampleSettings):
        value = getattr(settings, setting.name)
        if value == setting.default or (setting.name == "factor" and settings.pixel_size is not None):
            continue
        parts += [f"--{setting.name.replace('_', '-')}", repr(value) if isinstance(value, float) else str(value)]
    return shlex.join(parts)
