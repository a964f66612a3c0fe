"""The figures that let a result be trusted at a glance, the same for the command line, the demo and the window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_srast.core.mass_balance import max_relative_mass_error
from napari_srast.core.result import UpsampleMetadata, UpsampleResult

if TYPE_CHECKING:
    pass

__all__ = [
    "image_nats",
    "summarize",
]


def image_nats(result: UpsampleMetadata) -> np.ndarray | None:
    """Return the nats per count that the histology expects to have brought to each gene, shape (G,).

    Zero where it was not used; None where the run had none to look at (``--image none``, an interpolation).
    """
    record = (result.provenance.get("calibration") or {}).get("image")
    if record is None:
        return None
    told = np.asarray(record.get("nats_expected_by_gene", ()), dtype=float)
    return told if told.shape == (len(result.genes),) else np.zeros(len(result.genes))


def summarize(result: UpsampleMetadata) -> dict[str, Any]:
    """Return the size, the proof of conserved counts, seconds by stage, and each gene's skill and share of the image.

    ``skill`` is in nats per count gained over the uniform split in the check on the slide itself; NaN where the slide
    is too small to tell. ``image_nats``, by gene, is there only where the run had histology: see :func:`image_nats`.
    Of a result in a store the proof is the one that was made while it was written.
    """
    if isinstance(result, UpsampleResult):
        worst, n_negative = max_relative_mass_error(result), int((result.counts.data < 0).sum())
    else:
        worst, n_negative = (result.provenance[key] for key in ("max_relative_mass_error", "negative_pixels"))
    told = image_nats(result)
    genes = [str(gene) for gene in result.genes]
    return {
        "spots": len(result.raster.spots),
        "pixels": result.n_pixels,
        "genes": len(result.genes),
        "max_relative_mass_error": worst,
        "negative_pixels": n_negative,
        "seconds": dict(result.provenance.get("seconds", {})),
        "skill": dict(zip(genes, result.skill.astype(float).tolist(), strict=True)),
        **({} if told is None else {"image_nats": dict(zip(genes, told.tolist(), strict=True))}),
    }
