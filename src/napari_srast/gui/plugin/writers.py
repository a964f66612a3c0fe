"""Save layers of this plugin: genes as OME-TIFF, and the result that they show as a store.

napari chooses a writer by the types of the layers and the ending of the file, before it knows which plugin made them.
So layers of other origin are handed on to the writer that napari would have chosen without this plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_srast.errors import InputError

__all__ = ["write_image", "write_store"]

_PLUGIN = "napari-srast"
FullLayerData = tuple[Any, dict[str, Any], str]
"""Data, attributes and type of a napari layer."""


def write_image(path: str, layers: Sequence[FullLayerData]) -> list[str]:
    """Write displayed genes as the channels of an OME-TIFF; an existing file is replaced, as napari's dialog asked.

    The name of a channel has the unit of its values if they are not counts.

    Parameters
    ----------
    path
        The file.
    layers
        Image layers.

    Raises
    ------
    InputError
        The genes are of several results.
    OutputError
        The file cannot be written.
    """
    layers = [layer for layer in layers if not _is_unused(layer)] or layers
    results = [_result(layer) for layer in layers]
    if any(result is None for result in results):
        return _hand_on(path, layers)
    first = results[0]
    assert first is not None
    if any(result.run != first.run or result.raster.shape != first.raster.shape for result in results):
        raise InputError("The selected genes are of several results; save the genes of one result at a time.")
    names = [str(attributes["name"]) for _, attributes, _ in layers]
    if len(set(names)) < len(names):
        raise InputError(f"Two selected layers are named '{max(names, key=names.count)}'; rename one of them.")
    from napari_srast.io.atomic import atomic_output
    from napari_srast.io.export.ome_tiff import write_image_tiff

    images = {_channel_name(layer): layer[0] for layer in layers}
    with atomic_output(Path(path), replace=True) as partial:
        write_image_tiff(images, partial, first.raster.pixel_size if first.slide.unit == "um" else None)
    return [path]


def write_store(path: str, layers: Sequence[FullLayerData]) -> list[str]:
    """Write the result that layers show as a SpatialData store.

    Parameters
    ----------
    path
        The store; it must not exist.
    layers
        Image and points layers; at least one is a gene of the result.

    Raises
    ------
    InputError
        The layers are of several results.
    OutputError
        The store cannot be written.
    """
    results = {id(result): result for layer in layers if (result := _result(layer)) is not None}
    if not results or any(_entry(layer) is None for layer in layers):
        return _hand_on(path, layers)
    if len(results) > 1:
        raise InputError("The selected layers are of several results; save one result at a time.")
    from napari_srast.io.result_writer import write_result

    (result,) = results.values()
    return [str(write_result(result, path))]


def _entry(layer: FullLayerData) -> dict[str, Any] | None:
    """Return the metadata that this plugin attached to a layer; None for layers of other origin."""
    from napari_srast.gui.layers.factory import KEY

    entry = layer[1].get("metadata", {}).get(KEY)
    return entry if isinstance(entry, dict) else None


def _is_unused(layer: FullLayerData) -> bool:
    """Return whether a layer is kept for the next gene, so that its image is out of date."""
    return (_entry(layer) or {}).get("role") == "unused"


def _result(layer: FullLayerData) -> Any:
    """Return the result of which a layer shows a gene; None for other layers."""
    return None if _is_unused(layer) else (_entry(layer) or {}).get("result")


def _channel_name(layer: FullLayerData) -> str:
    """Return the name of a layer, with the unit of its values if they are not counts."""
    from napari_srast.gui.state.gene_values import COUNTS_UNIT

    name, unit = str(layer[1]["name"]), (_entry(layer) or {}).get("unit", COUNTS_UNIT)
    return name if unit == COUNTS_UNIT else f"{name} ({unit})"


def _hand_on(path: str, layers: Sequence[FullLayerData]) -> list[str]:
    """Save layers of other origin with the next writer that accepts them.

    Raises
    ------
    InputError
        There is no other writer for these layers and this ending.
    """
    import npe2

    name = Path(path).name.casefold()
    manager = npe2.PluginManager.instance()
    writers = [
        (max(len(ending) for ending in endings), writer)
        for writer in manager.iter_compatible_writers([kind for *_, kind in layers])
        if writer.plugin_name != _PLUGIN
        and (endings := [e for e in writer.filename_extensions if name.endswith(e.casefold())])
    ]
    if not writers:
        names = ", ".join(repr(str(attributes.get("name"))) for _, attributes, _ in layers)
        raise InputError(
            f"No gene of SRast is selected, and no other plugin saves {names} as '{Path(path).name}'; select genes of "
            "a result, or choose another type of file."
        )
    _, writer = max(writers, key=lambda rated: rated[0])
    takes_one = sum(constraint.max() for constraint in writer.layer_type_constraints()) <= 1
    written: Any = writer.exec(args=(path, *layers[0][:2]) if takes_one else (path, list(layers)))
    return [written] if isinstance(written, str) else list(written or [])  # napari's own writers return a text
