from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.analysis.traffic_lights import describe_lights, gene_lights
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide


@pytest.fixture
def result(make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]) -> UpsampleResult:
    gains = {"Gene0": [0.05, 0.01], "Gene1": [0.01, 0.01], "Gene3": [-0.04, 0.01]}
    result = make_result(make_slide())
    return dataclasses.replace(
        result,
        settings=dataclasses.replace(result.settings, method="srast"),
        method=np.array(["srast", "srast", "srast", "gp", "srast-programs"], dtype=object),
        provenance={"calibration": {"held_out_gain": gains}},
    )


def test_light_follows_the_held_out_gain_over_interpolation(result: UpsampleResult) -> None:
    lights = gene_lights(result)
    assert [light.light for light in lights] == ["better", "no clear gain", "unknown", "no clear gain", "unknown"]
    assert "+0.050 ± 0.010 nats per count" in lights[0].reason
    assert "from: gp" in lights[3].reason
    text = describe_lights(result, ["Gene0", "Gene1", "Gene2"], {"Gene0": 0.25})
    assert "▲ Better than interpolation: Gene0." in text
    assert "■ No clear gain over interpolation: Gene1." in text
    assert "? Not compared with interpolation: Gene2." in text
    assert "Gene0 25%" in text


def test_interpolations_and_earlier_results_have_no_light(result: UpsampleResult) -> None:
    chosen = dataclasses.replace(result, settings=dataclasses.replace(result.settings, method="gp"))
    assert {light.light for light in gene_lights(chosen)} == {"unknown"}
    earlier = dataclasses.replace(result, provenance={})
    assert [light.light for light in gene_lights(earlier)] == ["unknown"] * 3 + ["no clear gain", "unknown"]
