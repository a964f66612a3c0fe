"""Map every error to an exit status and one sentence."""

from __future__ import annotations

from napari_srast.cli.virtual_display import DisplayError
from napari_srast.errors import InternalError, SrastError, is_memory_error, out_of_memory_message

__all__ = ["DEBUG_VARIABLE", "explain"]

DEBUG_VARIABLE = "NAPARI_SRAST_DEBUG"
_EXTRA_OF_MODULE = {
    "distributed": "dask",
    "lightning": "train",
    "lightning_fabric": "train",
    "magicgui": "gui",
    "matplotlib": "plots",
    "napari": "gui",
    "qtpy": "gui",
    "spatialdata_io": "io",
    "superqt": "gui",
}


def explain(error: Exception) -> tuple[int, str]:
    """Return the exit status of an error, and the sentence to print."""
    text = " ".join(str(error).split())
    if isinstance(error, SrastError):
        return 2, text
    if isinstance(error, DisplayError | InternalError):
        return 1, text
    if is_memory_error(error):
        return 2, out_of_memory_message()
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return (
            2,
            f"'{error.filename}' cannot be used ({error.strerror}); check the path, its rights and the free space.",
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = _EXTRA_OF_MODULE.get(error.name.partition(".")[0])
        if extra:
            return 1, f"This needs {error.name}, which is not installed; run: pip install 'napari-srast[{extra}]'."
    return 1, f"Unexpected {type(error).__name__}: {text or 'no message'}; set {DEBUG_VARIABLE}=1 to see where."
