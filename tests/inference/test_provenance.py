"""What a result says of its run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.geometry.raster import make_raster
from napari_srast.inference.job import InferenceReport, ModelProvenance
from napari_srast.inference.provenance import RunDescription, measured_fraction


@pytest.fixture
def describe(make_slide: Callable[..., Slide]) -> Callable[..., dict[str, Any]]:
    """Return a function that describes a run on a slide, given what differs from the default."""

    def describe(settings: UpsampleSettings, region: Region | None = None, **report: Any) -> dict[str, Any]:
        slide = make_slide()
        return RunDescription(
            slide=slide,
            region=region,
            settings=settings,
            raster=make_raster(slide.centers, factor=2),
            report=InferenceReport(skill=np.zeros(1), method=np.array(["gp"]), model=ModelProvenance(), **report),
            mass_balance={"max_relative_mass_error": 1e-8, "negative_pixels": 0},
            seconds={"raster": 0.12345, "split": 1.0},
        ).to_dict()

    return describe


def test_settings_sizes_and_seconds_are_recorded(describe: Callable[..., dict[str, Any]]) -> None:
    values = describe(UpsampleSettings(method="gp", factor=2, seed=3))
    assert (values["method"], values["factor"], values["seed"]) == ("gp", 2, 3)
    assert values["pixel_side"] * 2 == values["pitch"]
    assert values["max_relative_mass_error"] == 1e-8
    assert values["seconds"] == {"raster": 0.123, "split": 1.0, "total": 1.123}
    assert values["region"] is None


def test_region_is_recorded_with_its_coordinate_system(describe: Callable[..., dict[str, Any]]) -> None:
    region = Region.from_wkt("POLYGON ((0 0, 9 0, 9 9, 0 0))")
    values = describe(UpsampleSettings(), region)
    assert Region.from_wkt(values["region"], values["region_coordinate_system"]).geometry.equals(region.geometry)


def test_notices_and_the_kind_of_skill_are_recorded_only_where_they_exist(
    describe: Callable[..., dict[str, Any]],
) -> None:
    assert not {"notices", "skill"} & set(describe(UpsampleSettings(method="gp")))
    settings = UpsampleSettings(method="gp", draws=3)
    values = describe(settings, warnings=("The device is full.",), skill_is_expected=True)
    assert values["notices"] == [*settings.ineffective_options, "The device is full."]
    assert len(values["notices"]) == 2
    assert values["skill"] == "expected information"


def test_measured_fraction_is_that_of_the_area(make_slide: Callable[..., Slide]) -> None:
    def fraction(**options: Any) -> float:
        slide = make_slide(6, 6, **options)
        return measured_fraction(slide, make_raster(slide.centers, factor=2))

    assert fraction(spot_diameter=50.0, spot_shape="square") == pytest.approx(0.25)
    assert fraction(spot_diameter=50.0, spot_shape="circle") == pytest.approx(np.pi / 16)
    assert fraction(spot_diameter=150.0, spot_shape="square") == 1.0
    assert np.isnan(fraction(spot_diameter=None))
