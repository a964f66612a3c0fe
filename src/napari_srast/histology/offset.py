"""Does the image lie where the slide says? The evidence for the image, moved by up to one pitch each way, tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from napari_srast.errors import Cancelled
from napari_srast.histology.expert import LEAST_EVIDENCE, ImageExpert

__all__ = ["OffsetEstimate", "estimate_offset"]

_RINGS = ((0.5, 8), (1.0, 12))  # radius in pitches, number of trial shifts on it
_STEPS = (0.25, 0.125)  # pitches: of the refinement around the best trial
_OFF = 0.3  # pitches: a smaller offset changes little
_BY = 5.0  # log odds by which the image must fit better elsewhere
_STILL = 0.6  # of the evidence at the best place: with less, what the image tells is wrong more often than right


@dataclass(frozen=True, kw_only=True, eq=False)
class OffsetEstimate:
    """Where the image fits best.

    Parameters
    ----------
    offset
        By how much the image lies beside the spots, (x, y) in the spots' own frame: moved back by so much it fits best.
    pitch
        Distance between neighboring spots.
    evidence, best
        Log odds that the image tells of the counts, where it lies and where it fits best.
    shifts
        The trial shifts, shape (n, 2), in pitches, and
    profile
        the evidence at each, shape (n,).
    """

    offset: tuple[float, float]
    pitch: float
    evidence: float
    best: float
    shifts: np.ndarray
    profile: np.ndarray

    @property
    def offset_pitches(self) -> float:
        """Length of the offset in pitches."""
        return float(np.hypot(*self.offset) / self.pitch)

    @property
    def off(self) -> bool:
        """Whether the image clearly fits better somewhere else, or so much better that it is not used as it lies."""
        elsewhere = self.best > LEAST_EVIDENCE and self.best - self.evidence > _BY and self.offset_pitches > _OFF
        return elsewhere or LEAST_EVIDENCE < self.evidence < _STILL * self.best

    @property
    def silent(self) -> bool:
        """Whether the image tells nothing of the counts, wherever it is moved."""
        return not self.off and self.evidence <= LEAST_EVIDENCE

    @property
    def trusted(self) -> bool:
        """Whether the image may be used as it lies."""
        return self.evidence > LEAST_EVIDENCE and self.evidence >= _STILL * self.best

    def notice(self, image: str, *, scale: float = 1.0, unit: str = "unknown") -> str | None:
        """Return one sentence for the user, None where all is well.

        Parameters
        ----------
        image
            Name of the image.
        scale, unit
            From the spots' own frame to lengths that the user knows, and their name.
        """
        if self.off:
            x, y = (scale * o for o in self.offset)
            name = "" if unit == "unknown" else f" {unit}"
            use = "used as it lies" if self.trusted else "not used"
            return (
                f"The image '{image}' seems to lie {self.offset_pitches:.2f} pitches beside the spots "
                f"(x {x:+.4g}{name}, y {y:+.4g}{name}) and was {use}; move it back by that much in its transformation, "
                "or leave it out with --image none."
            )
        if self.silent:
            return (
                f"The image '{image}' tells no more of the counts than chance would and was not used; check that it is "
                "of this section and neither shifted, turned nor mirrored, or leave it out with --image none."
            )
        return None


def estimate_offset(expert: ImageExpert, should_stop: Callable[[], bool] | None = None) -> OffsetEstimate:
    """Try the image at shifts of up to one pitch, then refine around the best."""
    tried: dict[tuple[float, float], float] = {(0.0, 0.0): expert.fit.evidence}

    def evidence(shift: tuple[float, float]) -> float:
        if shift not in tried:
            if should_stop is not None and should_stop():
                raise Cancelled
            tried[shift] = expert.evidence_at(np.array(shift) * expert.pitch)
        return tried[shift]

    for radius, n_directions in _RINGS:
        for angle in np.arange(n_directions) * (2 * np.pi / n_directions):
            evidence((round(radius * float(np.cos(angle)), 6), round(radius * float(np.sin(angle)), 6)))
    best = max(tried, key=lambda shift: tried[shift])
    for step in _STEPS:
        around = [(best[0] + i * step, best[1] + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        best = max(around, key=evidence)
    return OffsetEstimate(
        # The image seen at a shifted place fits: so what belongs here lies there.
        offset=(best[0] * expert.pitch, best[1] * expert.pitch),
        pitch=expert.pitch,
        evidence=expert.fit.evidence,
        best=tried[best],
        shifts=np.array(list(tried)),
        profile=np.array(list(tried.values())),
    )
