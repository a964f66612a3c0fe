"""Describe a run in the provenance of its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from napari_srast._version import __version__
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.geometry.raster import Raster
from napari_srast.inference.job import InferenceReport

__all__ = ["RunDescription", "measured_fraction"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunDescription:
    """Everything that the provenance of a result is made from.

    Parameters
    ----------
    slide, region, settings
        Input of the run; ``region`` is None for the whole slide.
    raster
        Pixels of the result.
    report
        Description of the computed counts.
    mass_balance
        Figures of the validated counts.
    seconds
        Duration of each stage in seconds.
    """

    slide: Slide
    region: Region | None
    settings: UpsampleSettings
    raster: Raster
    report: InferenceReport
    mass_balance: Mapping[str, float]
    seconds: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``uns["napari_srast"]``."""
        slide, raster, report = self.slide, self.raster, self.report
        warnings = [*self.settings.ineffective_options, *report.warnings]
        return {
            "version": __version__,
            **asdict(self.settings),
            "device": report.model.device,
            "model_sha256": report.model.model_sha256,
            "pixel_side": raster.pixel_size * slide.cs_scale,
            "pitch": raster.lattice.pitch * slide.cs_scale,
            "lattice": raster.lattice.kind,
            "unit": slide.cs_unit,
            "n_spots": len(raster.spots),
            "n_pixels": raster.n_pixels,
            "measured_fraction": measured_fraction(slide, raster),
            "input": {key: value for key, value in asdict(slide.source).items() if value is not None},
            "coordinate_system": slide.coordinate_system,
            "region": None if self.region is None else self.region.wkt,
            "region_coordinate_system": None if self.region is None else self.region.coordinate_system,
            "calibration": report.model.calibration,
            **({"skill": "expected information"} if report.skill_is_expected else {}),
            **({"notices": warnings} if warnings else {}),
            **self.mass_balance,
            "seconds": {
                **{stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
                "total": round(sum(self.seconds.values()), 3),
            },
        }


def measured_fraction(slide: Slide, raster: Raster) -> float:
    """Return the fraction of the raster's area that the spots measured; NaN if the size of the spots is unknown."""
    if slide.spot_area is None:
        return float("nan")
    return float(min(1.0, slide.spot_area * len(raster.spots) / (raster.n_pixels * raster.pixel_size**2)))
