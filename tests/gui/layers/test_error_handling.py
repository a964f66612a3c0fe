"""Errors of methods that the user or a timer calls."""

from __future__ import annotations

import pytest

from napari_srast.gui.layers.error_handling import handle_errors

pytestmark = pytest.mark.gui


class Drawing:
    """An object whose method fails."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.on_error = self.events.append

    def recover(self) -> None:
        self.events.append("recovered")

    @handle_errors
    def draw(self) -> None:
        raise ValueError("too many corners")


def test_object_recovers_before_the_error_is_shown() -> None:
    drawing = Drawing()
    drawing.draw()
    assert drawing.events[0] == "recovered"
    assert isinstance(drawing.events[1], ValueError)


def test_error_without_receiver_is_raised() -> None:
    drawing = Drawing()
    drawing.on_error = None
    with pytest.raises(ValueError, match="too many corners"):
        drawing.draw()
    assert drawing.events == []
