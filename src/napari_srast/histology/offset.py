"""Estimate whether the image is shifted from the spots: evaluate its evidence at shifts of up to one pitch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.histology.image_evidence import MIN_LOG_ODDS, ImageExpert

__all__ = ["OffsetEstimate", "estimate_offset", "is_misaligned"]

_RINGS = ((0.5, 8), (1.0, 12))  # radius in pitches, number of trial shifts on the circle
_REFINEMENT_STEPS = (0.25, 0.125, 0.0625)  # pitches, around the best trial
_MIN_OFFSET = 0.3  # pitches: a smaller offset is corrected, a larger one is reported
_MIN_LOG_ODDS_GAIN = 5.0  # by which the image must fit better at the offset to be misaligned
_MIN_EVIDENCE_FRACTION = 0.6  # of the best evidence: with less, predictions are wrong more often than right


@dataclass(frozen=True, kw_only=True, eq=False)
class OffsetEstimate:
    """Report where the image fits the counts best.

    Parameters
    ----------
    offset
        Displacement (x, y) of the image from the spots, in the spots' own frame: moved back by it, the image fits best.
    pitch
        Distance between neighboring spots.
    evidence
        Log odds that the image predicts the counts at its current position.
    best_evidence
        Log odds at the offset.
    shifts
        Trial shifts in pitches, shape (n, 2).
    shift_evidence
        Log odds at each trial shift, shape (n,).
    """

    offset: tuple[float, float]
    pitch: float
    evidence: float
    best_evidence: float
    shifts: np.ndarray
    shift_evidence: np.ndarray

    @property
    def offset_pitches(self) -> float:
        """Length of the offset in pitches."""
        return float(np.hypot(*self.offset) / self.pitch)

    @property
    def misaligned(self) -> bool:
        """Whether the image clearly fits better at the offset than at its current position."""
        return is_misaligned(self.evidence, self.best_evidence, self.offset_pitches)

    @property
    def uninformative(self) -> bool:
        """Whether there is no evidence that the image predicts the counts, and no clearly better position."""
        return not self.misaligned and self.evidence <= MIN_LOG_ODDS

    @property
    def usable(self) -> bool:
        """Whether the image may be used at its current position."""
        return self.evidence > MIN_LOG_ODDS and self.evidence >= _MIN_EVIDENCE_FRACTION * self.best_evidence

    @property
    def correction(self) -> tuple[float, float]:
        """The offset if it is small and the image clearly fits better there, else no offset; in the spots' own frame.

        Slides are rarely registered better than to a fraction of a pitch, which matters for much smaller pixels.
        """
        clearly_better = self.best_evidence - self.evidence > _MIN_LOG_ODDS_GAIN
        return self.offset if self.usable and not self.misaligned and clearly_better else (0.0, 0.0)

    def warning(self, image: str, *, scale: float = 1.0, unit: str = "unknown") -> str | None:
        """Return a one-sentence warning for the user, or None if the image is aligned and informative.

        Parameters
        ----------
        image
            Name of the image.
        scale
            Length of one unit of the spots' own frame in ``unit``.
        unit
            Name of the unit of length; "unknown" leaves it out.
        """
        if self.misaligned:
            x, y = (scale * o for o in self.offset)
            name = "" if unit == "unknown" else f" {unit}"
            use = "used at its current position" if self.usable else "not used"
            return (
                f"The image '{image}' appears to be shifted from the spots by {self.offset_pitches:.2f} pitches "
                f"(x {x:+.4g}{name}, y {y:+.4g}{name}) and was {use}; move it back by that much in its transformation, "
                "or exclude it with --image none."
            )
        if self.uninformative:
            return (
                f"The image '{image}' was not used: there is no evidence that it predicts the counts; check that it "
                "shows this section and is not shifted, rotated or mirrored, or exclude it with --image none."
            )
        return None


def is_misaligned(evidence: float, best_evidence: float, offset_pitches: float) -> bool:
    """Return whether the image clearly fits better at its offset than at its current position.

    Parameters
    ----------
    evidence, best_evidence
        Log odds that the image predicts the counts, at its current position and at the offset.
    offset_pitches
        Length of the offset in pitches.
    """
    clearly_better = (
        best_evidence > MIN_LOG_ODDS and best_evidence - evidence > _MIN_LOG_ODDS_GAIN and offset_pitches > _MIN_OFFSET
    )
    return clearly_better or MIN_LOG_ODDS < evidence < _MIN_EVIDENCE_FRACTION * best_evidence


def estimate_offset(expert: ImageExpert, monitor: RunMonitor = NO_MONITOR) -> OffsetEstimate:
    """Estimate the offset of the image: try shifts of up to one pitch, then refine around the best.

    Parameters
    ----------
    expert
        Image expert of the slide.
    monitor
        Asked before every trial whether the run was canceled.

    Raises
    ------
    Cancelled
        The monitor is canceled.
    """
    tried: dict[tuple[float, float], float] = {(0.0, 0.0): expert.fit.evidence}

    def evidence(shift: tuple[float, float]) -> float:
        if shift not in tried:
            monitor.check_canceled()
            tried[shift] = expert.evidence_at(np.array(shift) * expert.pitch)
        return tried[shift]

    for radius, n_directions in _RINGS:
        for angle in np.arange(n_directions) * (2 * np.pi / n_directions):
            evidence((round(radius * float(np.cos(angle)), 6), round(radius * float(np.sin(angle)), 6)))
    best = max(tried, key=lambda shift: tried[shift])
    for step in _REFINEMENT_STEPS:
        around = [(best[0] + i * step, best[1] + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        best = max(around, key=evidence)
    return OffsetEstimate(
        # The image fits when sampled at spots + shift, so the image is displaced by this shift.
        offset=(best[0] * expert.pitch, best[1] * expert.pitch),
        pitch=expert.pitch,
        evidence=expert.fit.evidence,
        best_evidence=tried[best],
        shifts=np.array(list(tried)),
        shift_evidence=np.array(list(tried.values())),
    )
