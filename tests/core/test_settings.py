"""Tests of the validation of settings."""

from __future__ import annotations

from typing import Any

import pytest

from napari_srast.core.settings import UpsampleSettings
from napari_srast.errors import SettingsError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1.0}, "factor is 1, but must be above 1 and at most 64; 2 or 4 suit most slides"),
        ({"factor": float("nan")}, "factor is nan"),
        ({"pixel_size": 0.0}, "pixel size is 0, but must be between 1e-12 and 1e"),
        ({"mode": "median"}, "mode is 'median', but must be one of: mean, sample, integer"),
        ({"draws": 0}, "draws is 0, but must be between 1 and 1000"),
        ({"expression": "MUC2"}, "expression is 'MUC2', but must be 'auto', 'none' or a list of genes"),
        ({"expression": []}, "expression is ()"),
        ({"expression": None}, "expression is None"),
        ({"seed": -1}, "seed is -1, but must be between 0 and 4294967295"),
    ],
)
def test_invalid_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        UpsampleSettings(**options)
    assert message in str(caught.value)


def test_genes_of_expression_are_a_tuple_without_duplicates() -> None:
    settings = UpsampleSettings(expression=["B", "A", "B"])  # type: ignore[arg-type]
    assert settings.expression == ("B", "A")
    assert hash(settings) == hash(UpsampleSettings(expression=("B", "A")))


def test_ineffective_options_are_listed() -> None:
    assert UpsampleSettings(mode="sample", draws=4, device="cuda").ineffective_options == ()
    assert UpsampleSettings(draws=4, steps=2).ineffective_options == (
        "Only method 'srast' in mode 'sample' uses draws and steps.",
    )
    ineffective = " ".join(UpsampleSettings(method="gp", mode="sample", device="cuda").ineffective_options)
    assert "draws no samples" in ineffective
    assert "device 'cuda' is not used" in ineffective
