from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.gui.state.gene_quality import describe_lights, gene_lights, own_detail
from napari_srast.gui.state.gene_values import GeneValues

pytestmark = pytest.mark.gui


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
    assert [light.light for light in lights] == ["better", "no better", "unknown", "no better", "unknown"]
    assert "+0.050 ± 0.010 nats per count" in lights[0].reason
    assert "from: gp" in lights[3].reason
    text = describe_lights(result, ["Gene0", "Gene1", "Gene2"], {"Gene0": 0.25})
    assert "▲ Better than interpolation: Gene0." in text
    assert "■ No better than interpolation: Gene1." in text
    assert "? Not compared with interpolation: Gene2." in text
    assert "Gene0 25%" in text


def test_interpolations_and_earlier_results_have_no_light(result: UpsampleResult) -> None:
    chosen = dataclasses.replace(result, settings=dataclasses.replace(result.settings, method="gp"))
    assert {light.light for light in gene_lights(chosen)} == {"unknown"}
    earlier = dataclasses.replace(result, provenance={})
    assert [light.light for light in gene_lights(earlier)] == ["unknown"] * 3 + ["no better", "unknown"]


def test_own_detail_is_what_the_other_genes_do_not_explain(result: UpsampleResult) -> None:
    rng = np.random.default_rng(0)
    common = rng.random(result.n_pixels)
    own = rng.random(result.n_pixels)
    columns = np.column_stack([common, 2 * common, 0 * common, own, 3 * common])
    result = dataclasses.replace(result, counts=type(result.counts)(columns.astype(np.float32)))
    shares = own_detail(GeneValues.of(result), ["Gene0", "Gene2", "Gene3"])
    assert shares["Gene0"] < 0.1
    assert shares["Gene3"] > 0.9
    assert "Gene2" not in shares  # no counts, so no detail
