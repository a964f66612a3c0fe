"""Tests of the builders of error messages."""

from __future__ import annotations

from napari_srast.errors import invalid_choice, out_of_memory_message, value_out_of_range


def test_invalid_choice_lists_the_choices() -> None:
    assert str(invalid_choice("mode", "x", ("mean", "sample"))) == "mode is 'x', but must be one of: mean, sample."


def test_value_out_of_range_gives_limits_and_advice() -> None:
    assert str(value_out_of_range("seed", -1, "at least 0")) == "seed is -1, but must be at least 0."
    message = str(value_out_of_range("factor", 1.0, "above 1", "2 or 4 suit most slides"))
    assert message == "factor is 1, but must be above 1; 2 or 4 suit most slides."


def test_memory_message_names_device_and_advice() -> None:
    assert out_of_memory_message() == (
        "This computer ran out of memory; close other programs, or work on less data at once."
    )
    message = out_of_memory_message("during the run", "choose device 'cpu'", what="The device 'cuda'")
    assert message == "The device 'cuda' ran out of memory during the run; choose device 'cpu'."
