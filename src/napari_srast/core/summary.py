"""Key figures of a result, the same for the command line, the demo and the window."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_srast.core.mass_balance import max_relative_mass_error
from napari_srast.core.result import UpsampleMetadata, UpsampleResult

__all__ = ["image_nats", "summarize"]


def image_nats(result: UpsampleMetadata) -> np.ndarray | None:
    """Return the expected gain of each gene from histology, in nats per count, shape (G,).

    The gain is 0 if the histology was not used. It is None if the run had no image (``--image none``, or an
    interpolation method).
    """
    record = (result.provenance.get("calibration") or {}).get("image")
    if record is None:
        return None
    nats = np.asarray(record.get("nats_expected_by_gene", ()), dtype=float)
    return nats if nats.shape == (len(result.genes),) else np.zeros(len(result.genes))


def summarize(result: UpsampleMetadata) -> dict[str, Any]:
    """Summarize a result.

    Parameters
    ----------
    result
        A result, or the metadata of a result in a store. The mass balance of the former is computed, that of the latter
        is taken from its provenance, where it was recorded during writing.

    Returns
    -------
    dict
        ``spots``, ``pixels`` and ``genes``: sizes. ``max_relative_mass_error`` and ``negative_pixels``: mass balance.
        ``seconds``: run time of each stage. ``skill``: nats per count that each gene gains over a uniform split; see
        :class:`~napari_srast.core.result.UpsampleMetadata`. ``image_nats``, only if the run had an image: see
        :func:`image_nats`, by gene.
    """
    if isinstance(result, UpsampleResult):
        mass_error, n_negative = max_relative_mass_error(result), int((result.counts.data < 0).sum())
    else:
        mass_error, n_negative = (result.provenance[key] for key in ("max_relative_mass_error", "negative_pixels"))
    nats = image_nats(result)
    genes = [str(gene) for gene in result.genes]
    return {
        "spots": len(result.raster.spots),
        "pixels": result.n_pixels,
        "genes": len(result.genes),
        "max_relative_mass_error": mass_error,
        "negative_pixels": n_negative,
        "seconds": dict(result.provenance.get("seconds", {})),
        "skill": dict(zip(genes, result.skill.astype(float).tolist(), strict=True)),
        **({} if nats is None else {"image_nats": dict(zip(genes, nats.tolist(), strict=True))}),
    }
