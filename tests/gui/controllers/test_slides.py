"""Opening a slide in several steps, each in a turn of the event loop of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from napari_srast.core.slide import Slide
from napari_srast.gui.controllers import slides as module
from napari_srast.gui.controllers.task_runner import AppState
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def turns(widget: SRastWidget) -> list[Callable[[], None]]:
    """What the controllers have scheduled for later turns of the event loop."""
    scheduled: list[Callable[[], None]] = []
    widget.controller.slides._workspace.schedule = scheduled.append
    return scheduled


def _show(widget: SRastWidget, slide: Slide) -> None:
    widget.controller.slides.show(LoadedSlide(slide=slide, source=None), in_steps=True)


def test_layers_controls_and_panels_of_a_slide_appear_in_turns_of_their_own(
    widget: SRastWidget, turns: list[Callable[[], None]], make_slide: Callable[..., Slide]
) -> None:
    controller, slide = widget.controller, make_slide()
    layers = controller.viewer.layers
    announced: list[int] = []
    controller.slides.slide_changed.connect(lambda: announced.append(len(turns)))
    _show(widget, slide)
    assert [role_of(layer) for layer in layers] == ["spots"]
    assert layers.selection.active is None  # napari makes the controls of a layer that is selected
    assert controller.tasks.state is AppState.OPENING
    turns.pop(0)()
    assert layers.selection.active is layers[0]
    assert not controller.viewer.canvas.overlays.scale_bar.visible
    turns.pop(0)()
    assert controller.viewer.canvas.overlays.scale_bar.visible  # its first drawing takes long, too
    assert controller.tasks.state is AppState.OPENING
    assert not announced
    while turns:
        turns.pop(0)()
    assert announced
    assert controller.tasks.state is AppState.READY
    assert widget.gene_panel.model.n_genes == slide.n_genes


@pytest.mark.parametrize("n_turns", [0, 1, 2])
def test_slide_that_is_closed_while_it_opens_leaves_nothing(
    widget: SRastWidget, turns: list[Callable[[], None]], make_slide: Callable[..., Slide], n_turns: int
) -> None:
    controller = widget.controller
    _show(widget, make_slide())
    for _ in range(n_turns):
        turns.pop(0)()
    controller.viewer.layers.clear()  # by the user
    while turns:
        turns.pop(0)()
    assert not controller.slides.sessions
    assert controller.tasks.state is AppState.EMPTY
    _show(widget, make_slide(seed=1))
    while turns:
        turns.pop(0)()
    assert controller.tasks.state is AppState.READY


def test_slide_that_is_opened_meanwhile_stays_the_current_one(
    widget: SRastWidget,
    turns: list[Callable[[], None]],
    make_slide: Callable[..., Slide],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controller, zoomed = widget.controller, []
    monkeypatch.setattr(controller.slides.view, "fit", zoomed.extend)
    _show(widget, make_slide())
    first = turns.pop(0)
    _show(widget, make_slide(seed=1))
    second = controller.slides.sessions[1]
    of_second = turns.pop(0)
    first()  # selects
    turns.pop(0)()
    turns.pop(0)()  # would make the first slide ready
    assert not turns
    assert controller.tasks.state is AppState.OPENING
    assert controller.viewer.layers.selection.active is None
    of_second()
    while turns:
        turns.pop(0)()
    assert controller.slides.current is second
    assert controller.tasks.state is AppState.READY
    assert zoomed == second.layers
    assert controller.viewer.layers.selection.active is second.layers[-1]


def test_layer_that_cannot_be_selected_closes_the_slide_and_reports_the_error(
    widget: SRastWidget,
    turns: list[Callable[[], None]],
    make_slide: Callable[..., Slide],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(module.SlideManager, "_select", fail)
    _show(widget, make_slide())
    while turns:
        turns.pop(0)()
    assert not widget.controller.slides.sessions
    assert not widget.controller.viewer.layers
    assert widget.controller.tasks.state is AppState.EMPTY
    assert "boom" in widget.run_bar.status.text()
