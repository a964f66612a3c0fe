"""Visual super-resolution of spatial transcriptomics slides.

The public API is loaded on first use, so that ``import napari_srast`` brings neither torch nor Qt nor spatialdata.

>>> import napari_srast as srast
>>> srast.UpsampleSettings(factor=4).factor
4
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "Region": "slide",
    "Slide": "slide",
    "SlideImage": "slide",
    "UpsampleRecord": "slide",
    "UpsampleResult": "slide",
    "UpsampleSettings": "slide",
    "SrastError": "errors",
    "read_slide": "io.slides",
    "sample_slide": "io.sample",
    "write_result": "io.results",
    "read_result": "io.results",
    "upsample": "pipeline",
    "upsample_to_store": "pipeline",
    "estimate": "pipeline",
    "evaluate": "evaluation.protocol",
}

__all__ = ["__version__", *sorted(_EXPORTS)]

if TYPE_CHECKING:
    from napari_srast.errors import SrastError
    from napari_srast.evaluation.protocol import evaluate
    from napari_srast.io.results import read_result, write_result
    from napari_srast.io.sample import sample_slide
    from napari_srast.io.slides import read_slide
    from napari_srast.pipeline import estimate, upsample, upsample_to_store
    from napari_srast.slide import Region, Slide, SlideImage, UpsampleRecord, UpsampleResult, UpsampleSettings


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
