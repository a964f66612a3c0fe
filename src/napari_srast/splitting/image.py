"""The histology of a job: learned from once, checked, and looked at in all wanted pixels.

Shape legend: N spots, Q pixels, F fields, P components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast.errors import InputError
from napari_srast.geometry.layout import Layout
from napari_srast.histology import ImageExpert, LocalImage, fit_image_expert
from napari_srast.histology.registration import check_registration
from napari_srast.histology.trust import WEIGHTS
from napari_srast.splitting.job import Job

__all__ = ["JobImage", "image_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class JobImage:
    """The histology of a job.

    Parameters
    ----------
    expert
        What it tells; None where it is not used.
    layout
        All spots and the wanted pixels.
    local
        That in all wanted pixels; None where it is not used.
    record
        For the provenance.
    notices
        For the user.
    """

    expert: ImageExpert | None = None
    layout: Layout | None = None
    local: LocalImage | None = None
    record: dict[str, Any] | None = None
    notices: tuple[str, ...] = ()

    def recorded(self, slopes: np.ndarray | None, totals: np.ndarray) -> dict[str, Any] | None:
        """Return the record with the nats per count that the image expects to bring to each chosen gene, and overall.

        Parameters
        ----------
        slopes
            Of the chosen genes, shape (P - 1, G); None where the image is not used.
        totals
            All counts of each, shape (G,).
        """
        if self.record is None or self.expert is None or self.local is None or self.layout is None or slopes is None:
            return self.record
        nats = self.local.expected_nats(slopes, self.expert.totals, self.layout)
        mean = float(np.average(nats, weights=totals)) if totals.sum() > 0 else 0.0
        # A list in the order of the genes: as keys, names with slashes and 20,000 of them would trouble file formats.
        return self.record | {"nats_expected": round(mean, 5), "nats_expected_by_gene": np.round(nats, 5).tolist()}

    def slopes(self, fields: sparse.csr_matrix | np.ndarray) -> np.ndarray | None:
        """Return the slopes of fields of all spots (N, F), shape (P - 1, F); None where the image is not used."""
        return None if self.expert is None else self.expert.slopes(fields).astype(np.float32)


def image_of(job: Job) -> JobImage:
    """Learn from the histology, check where it lies, and look at it; a job without one has nothing to say."""
    if job.image is None:
        return JobImage()
    try:
        expert = fit_image_expert(job.counts, job.centers, job.lattice.pitch, job.image, seed=job.settings.seed)
    except InputError as error:  # the counts can be split without it
        return JobImage(record={"name": job.image.name, "used": False}, notices=(str(error),))
    job.check_stop()
    registration = check_registration(expert, job.should_stop)
    notice = registration.notice(job.image.name)
    record = {
        "name": job.image.name,
        "kind": expert.features.kind,
        "used": registration.trusted,
        "weights": list(WEIGHTS) if registration.trusted else [0.0] * len(WEIGHTS),
        "evidence": round(registration.evidence, 3),
        "offset": [round(float(o), 6) for o in registration.offset],
        "offset_pitches": round(registration.offset_pitches, 4),
        "evidence_at_offset": round(registration.best, 3),
    }
    notices = () if notice is None else (notice,)
    if not registration.trusted:
        return JobImage(record=record, notices=notices)
    layout = job.layout
    wanted = Layout(
        spots=layout.spots, pixels=layout.pixels[job.inner], parent=layout.parent[job.inner], pitch=layout.pitch
    )
    return JobImage(expert=expert, layout=wanted, local=expert.on(wanted), record=record, notices=notices)
