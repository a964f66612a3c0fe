"""The command line that repeats a result without a window."""

from __future__ import annotations

import shlex
from dataclasses import fields

from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.errors import InputError

__all__ = ["command_line"]


def command_line(result: UpsampleResult, output: str = "result.zarr") -> str:
    """Return the ``napari-srast upsample`` line that computes a result again, byte for byte on the same device.

    Everything that decides the result is named, save settings that are at their default.

    Raises
    ------
    InputError
        The slide lives in memory only, or a gene's name cannot be written in a list.
    """
    source, settings, region = result.slide.source, result.settings, result.region
    if source.path is None:
        raise InputError("The slide was not read from a store, so no command can read it; write it to one first.")
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
        awkward = [n for n in names if "," in n or n.startswith("@") or n == "all" or n != n.strip()]
        if awkward:
            raise InputError(f"Gene '{awkward[0]}' cannot be named in a list of genes; run all genes, or in Python.")
        parts += ["--genes", ",".join(names)]
    for setting in fields(UpsampleSettings):
        value = getattr(settings, setting.name)
        if value == setting.default or (setting.name == "factor" and settings.pixel_size is not None):
            continue
        parts += [f"--{setting.name.replace('_', '-')}", repr(value) if isinstance(value, float) else str(value)]
    return shlex.join(parts)
