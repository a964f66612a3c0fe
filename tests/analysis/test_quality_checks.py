from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.analysis.quality_checks import measure_quality, qc_summary
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide


@pytest.fixture
def result(make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]) -> UpsampleResult:
    return make_result(make_slide())


def test_correct_result_passes_all_checks(result: UpsampleResult) -> None:
    quality = measure_quality(result)
    assert quality.max_relative_mass_error < 1e-6
    assert quality.negative_pixels == 0
    assert quality.measured_fraction == pytest.approx(1.0)


def test_measured_fraction_excludes_gaps_between_spots(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    fraction = measure_quality(make_result(make_slide(lattice="hex"), factor=8.0)).measured_fraction
    assert fraction == pytest.approx(0.27, abs=0.02)
    assert measure_quality(make_result(make_slide(spot_diameter=None))).measured_fraction is None


def test_lost_counts_are_detected(result: UpsampleResult) -> None:
    counts = result.counts.copy()
    counts.data *= 0.9
    assert measure_quality(dataclasses.replace(result, counts=counts)).max_relative_mass_error == pytest.approx(0.1)


def test_invented_counts_are_detected(result: UpsampleResult) -> None:
    counts = result.counts.tolil()
    counts[0, 2] = 3.0  # the gene is zero everywhere
    assert measure_quality(dataclasses.replace(result, counts=counts.tocsr())).max_relative_mass_error >= 3
    assert np.isfinite(measure_quality(result).max_relative_mass_error)


def test_negative_counts_are_detected(result: UpsampleResult) -> None:
    counts = result.counts.copy()
    counts.data[0] *= -1
    assert measure_quality(dataclasses.replace(result, counts=counts)).negative_pixels == 1


@pytest.mark.parametrize(("lattice", "factor"), [("square", 4.0), ("square", 2.0), ("hex", 2.0)])
def test_summary_states_the_share_of_the_calibrated_model(
    make_slide: Callable[..., Slide],
    make_result: Callable[..., UpsampleResult],
    lattice: str,
    factor: float,
) -> None:
    calibration = {"source": "slide", "trust_in_network": 0.99}
    result = dataclasses.replace(
        make_result(make_slide(lattice=lattice), factor=factor),
        skill=np.full(5, 0.1),
        provenance={"calibration": calibration, "skill": "expected information"},
    )
    text = _summary(result, ["Gene0"])
    assert "share of 20% in the map, and a smooth map of the measured spots has the rest" in text
    assert "99%" not in text
    assert "expected from the map itself: +0.100 nats per count" in text
    integer = dataclasses.replace(
        result,
        settings=dataclasses.replace(result.settings, method="srast", mode="integer"),
        provenance={"calibration": calibration},
    )
    assert "share of 20% in the map" in _summary(integer, [])
    calibration["share"] = {"totals": 0.5, "composition": 0.2}
    assert "share of 20% in the map (50% in its total counts), and a smooth map" in _summary(integer, [])


def test_summary_states_no_share_that_the_result_does_not_have(result: UpsampleResult) -> None:
    earlier = {"calibration": {"source": "slide", "trust_in_network": 0.93}}  # before maps were averaged
    assert "share of" not in _summary(dataclasses.replace(result, provenance=earlier), [])
    other_experts = {"calibration": {"source": "slide", "trust": 0.93}, "skill": "expected information"}
    assert "share of" not in _summary(dataclasses.replace(result, provenance=other_experts), [])
    assert "share of" not in _summary(dataclasses.replace(result, provenance={}), [])


def test_summary_calls_held_out_skill_measured(result: UpsampleResult) -> None:
    result = dataclasses.replace(result, skill=np.full(5, 0.1), provenance={})
    assert "measured on this slide, one level coarser: +0.100" in _summary(result, ["Gene0"])


@pytest.fixture
def mixed_result(make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]) -> UpsampleResult:
    """A result with skill, fallbacks, histology and a warning."""
    return dataclasses.replace(
        make_result(make_slide(lattice="hex"), factor=8.0),
        skill=np.array([0.02, -0.01, np.nan, 0.04, 0.0]),
        method=np.array(["uniform", "gp", "gp", "bilinear", "uniform"], dtype=object),
        provenance={
            "notices": ["Image 'he' seems to be misaligned."],
            "calibration": {"image": {"used": True, "nats_expected_by_gene": [0.01, 0.02, 0.0, 0.03, 0.05]}},
        },
    )


def _summary(result: UpsampleResult, genes: list[str]) -> str:
    return " ".join(qc_summary(result, measure_quality(result), genes))


def test_summary_has_skill_of_the_shown_genes(mixed_result: UpsampleResult) -> None:
    text = _summary(mixed_result, ["Gene0", "Gene1"])
    assert "+0.005 nats per count" in text
    assert "Gene1: no better than a uniform split" in text
    assert "Skill of the shown genes is unknown" in _summary(mixed_result, ["Gene2"])


def test_summary_has_area_fallbacks_and_warnings(mixed_result: UpsampleResult) -> None:
    text = _summary(mixed_result, [])
    assert re.search(r"\b2\d% of the area was measured", text)
    assert "3 of 5 genes fell back: 2 to gp, 1 to bilinear" in text
    assert "Image 'he' seems to be misaligned." in text


def test_summary_has_the_contribution_of_the_histology(mixed_result: UpsampleResult) -> None:
    assert "nats per count: Gene0 +0.010, Gene1 +0.020." in _summary(mixed_result, ["Gene0", "Gene1"])
    assert "Histology: expected contribution 0.0" in _summary(mixed_result, [])
    assert "Histology" not in _summary(dataclasses.replace(mixed_result, provenance={}), ["Gene0"])
    unused = dataclasses.replace(mixed_result, provenance={"calibration": {"image": {"used": False}}})
    assert "Histology not used" in _summary(unused, ["Gene0"])
