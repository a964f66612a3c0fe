from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.state.quality_checks import measure_quality, trust_lines

pytestmark = pytest.mark.gui


def test_a_true_result_is_trusted(make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]) -> None:
    trust = measure_quality(make_result(make_slide()))
    assert trust.max_relative_mass_error < 1e-6
    assert trust.negative_pixels == 0
    assert trust.measured_fraction == pytest.approx(1.0)


def test_hexagonal_spots_leave_gaps_that_nobody_measured(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    fraction = measure_quality(make_result(make_slide(lattice="hex"), factor=8.0)).measured_fraction
    assert fraction == pytest.approx(0.27, abs=0.02)
    assert measure_quality(make_result(make_slide(spot_diameter=None))).measured_fraction is None


def test_lost_made_up_and_negative_counts_are_noticed(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    result = make_result(make_slide())
    lost = result.counts.copy()
    lost.data *= 0.9
    assert measure_quality(dataclasses.replace(result, counts=lost)).max_relative_mass_error == pytest.approx(0.1)
    made_up = result.counts.tolil()
    made_up[0, 2] = 3.0  # the gene is zero everywhere
    assert measure_quality(dataclasses.replace(result, counts=made_up.tocsr())).max_relative_mass_error >= 3
    negative = result.counts.copy()
    negative.data[0] *= -1
    assert measure_quality(dataclasses.replace(result, counts=negative)).negative_pixels == 1
    assert np.isfinite(measure_quality(result).max_relative_mass_error)


@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        ({"source": "slide", "trust_in_network": 0.934}, "leave the network 93% of its say"),
        ({"source": "slide", "trust_in_network": 1.0}, "surely better"),
        ({"source": "fleet", "trust_in_network": 1.0}, "too small to be checked on itself"),
        ({"source": "slide"}, None),  # a result of an earlier version
    ],
)
def test_trust_in_the_network_is_told(
    make_slide: Callable[..., Slide],
    make_result: Callable[..., UpsampleResult],
    calibration: dict[str, object],
    told: str | None,
) -> None:
    result = dataclasses.replace(make_result(make_slide()), provenance={"calibration": calibration})
    lines = [line for line in trust_lines(result, measure_quality(result), []) if "network" in line]
    assert len(lines) == (told is not None)
    assert told is None or told in lines[0]
