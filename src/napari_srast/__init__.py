"""Visual super-resolution of spatial transcriptomics slides.

The public API is loaded on first use, so that ``import napari_srast`` brings neither torch nor Qt nor spatialdata.

>>> import napari_srast as srast
>>> srast.UpsampleSettings(factor=4).factor
4
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from napari_srast._version import __version__

_EXPORTS = {
    "Region": "core.region",
    "Slide": "core.slide",
    "SlideImage": "core.slide",
    "UpsampleMetadata": "core.result",
    "UpsampleResult": "core.result",
    "UpsampleSettings": "core.settings",
    "SrastError": "errors",
    "mouse_dentate_gyrus": "datasets.mouse_dentate_gyrus",
    "read_slide": "io.slide_reader",
    "synthetic_colon": "datasets.synthetic_colon",
    "write_result": "io.result_writer",
    "export": "io.export.exporter",
    "read_result": "io.result_reader",
    "upsample": "api",
    "upsample_to_store": "api",
    "estimate": "api",
    "evaluate": "evaluation.protocol",
    "cells": "analysis.cells",
    "colocalization": "analysis.structure",
    "compare_regions": "analysis.comparison",
    "plot_changes": "analysis.volcano",
    "pseudobulk": "analysis.pseudobulk",
    "domains": "analysis.domains",
    "read_domains": "analysis.domains",
    "signatures": "analysis.signatures",
    "write_report": "analysis.report.writer",
    "spatially_variable": "analysis.structure",
    "expression": "core.expression",
    "new_count_std": "core.expression",
}

__all__ = ["__version__", *sorted(_EXPORTS)]

if TYPE_CHECKING:
    from napari_srast.analysis.cells import cells
    from napari_srast.analysis.comparison import compare_regions
    from napari_srast.analysis.domains import domains, read_domains
    from napari_srast.analysis.pseudobulk import pseudobulk
    from napari_srast.analysis.report.writer import write_report
    from napari_srast.analysis.signatures import signatures
    from napari_srast.analysis.structure import colocalization, spatially_variable
    from napari_srast.analysis.volcano import plot_changes
    from napari_srast.api import estimate, upsample, upsample_to_store
    from napari_srast.core.expression import expression, new_count_std
    from napari_srast.core.region import Region
    from napari_srast.core.result import UpsampleMetadata, UpsampleResult
    from napari_srast.core.settings import UpsampleSettings
    from napari_srast.core.slide import Slide, SlideImage
    from napari_srast.datasets.mouse_dentate_gyrus import mouse_dentate_gyrus
    from napari_srast.datasets.synthetic_colon import synthetic_colon
    from napari_srast.errors import SrastError
    from napari_srast.evaluation.protocol import evaluate
    from napari_srast.io.export.exporter import export
    from napari_srast.io.result_reader import read_result
    from napari_srast.io.result_writer import write_result
    from napari_srast.io.slide_reader import read_slide


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
