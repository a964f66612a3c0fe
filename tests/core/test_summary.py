"""Key figures of a result."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from helpers.results import make_result

from napari_srast.core.result import UpsampleMetadata
from napari_srast.core.summary import image_nats, summarize


def with_image(record: dict[str, Any] | None) -> UpsampleMetadata:
    calibration = {} if record is None else {"image": record}
    return dataclasses.replace(make_result(), provenance={"calibration": calibration})


def test_figures_are_those_of_the_result() -> None:
    result = make_result()
    figures = summarize(dataclasses.replace(result, skill=np.array([0.1, 0.2, np.nan, 0.0])))
    assert (figures["spots"], figures["pixels"], figures["genes"]) == (30, result.n_pixels, 4)
    assert figures["negative_pixels"] == 0
    assert figures["skill"]["Gene1"] == 0.2
    assert "image_nats" not in figures


def test_negative_counts_and_lost_counts_are_counted() -> None:
    result = make_result()
    counts = result.counts.copy()
    counts.data[:2] *= -1
    figures = summarize(dataclasses.replace(result, counts=counts))
    assert figures["negative_pixels"] == 2
    assert figures["max_relative_mass_error"] > 0.01


def test_mass_balance_of_a_stored_result_is_the_recorded_one() -> None:
    result = make_result()
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(UpsampleMetadata)}
    fields["provenance"] = {"max_relative_mass_error": 0.5, "negative_pixels": 7, "seconds": {"total": 1.0}}
    figures = summarize(UpsampleMetadata(**fields))
    assert (figures["max_relative_mass_error"], figures["negative_pixels"]) == (0.5, 7)
    assert figures["seconds"] == {"total": 1.0}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, None),
        ({"used": False}, [0, 0, 0, 0]),
        ({"used": True, "nats_expected_by_gene": [0.1, 0.2, 0.3, 0.4]}, [0.1, 0.2, 0.3, 0.4]),
        ({"used": True, "nats_expected_by_gene": [0.1]}, [0, 0, 0, 0]),  # of other genes
    ],
)
def test_gain_of_the_image_is_zero_unless_it_was_used(record: dict[str, Any] | None, expected: list[float]) -> None:
    nats = image_nats(with_image(record))
    assert (None if nats is None else nats.tolist()) == expected
