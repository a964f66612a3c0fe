"""The settings form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.window import PATIENCE, wait_ready
from napari.components import ViewerModel
from typer.testing import CliRunner

from napari_srast.cli.app import app
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.panels.settings import SettingsPanel
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.run_estimate import describe_skill
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.widget import SRastWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def panel(qtbot: Any) -> SettingsPanel:
    panel = SettingsPanel(Controller(ViewerModel()))
    qtbot.addWidget(panel)
    return panel


@pytest.mark.parametrize(
    "settings",
    [
        UpsampleSettings(),
        UpsampleSettings(factor=2.123456789, seed=2**32 - 1),
        UpsampleSettings(factor=1.000001),
        UpsampleSettings(pixel_size=1e-7 / 3, footprint="spot"),
        UpsampleSettings(mode="sample", draws=7, steps=12, model="my.safetensors", device="cpu"),
        UpsampleSettings(method="gp", mode="integer"),
        UpsampleSettings(expression=("A", "B")),
        UpsampleSettings(expression="none"),
    ],
)
def test_applied_settings_are_returned_exactly(panel: SettingsPanel, settings: UpsampleSettings) -> None:
    panel.apply(settings)
    assert panel.settings() == settings


def test_stepping_replaces_an_exact_value(panel: SettingsPanel) -> None:
    panel.apply(UpsampleSettings(factor=2.123456789))
    assert panel.factor.native.text() == "2.123457"
    panel.factor.native.stepUp()
    assert panel.settings().factor == 3.123457
    panel.apply(UpsampleSettings(factor=2.25))
    assert panel.factor.native.text() == "2.25"
    panel.factor.native.setValue(4)
    assert panel.settings().factor == 4


def test_draws_and_steps_need_the_mode_sample(panel: SettingsPanel) -> None:
    for mode, is_used in (("mean", False), ("sample", True), ("integer", False)):
        panel.mode.value = mode
        for control in (panel.draws.native, panel.steps.native):
            assert control.isEnabled() is is_used
            assert ("Only the mode 'sample'" in control.accessibleDescription()) is not is_used
    panel.method.value = "uniform"
    assert "Only the method 'srast'" in panel.steps.native.accessibleDescription()


def test_every_change_is_announced(panel: SettingsPanel) -> None:
    changes: list[int] = []
    panel.changed.connect(lambda: changes.append(1))
    for change in (
        lambda: panel.factor.native.setValue(5),
        lambda: panel.model.native.setText("other.safetensors"),
        lambda: panel.mode.native.setCurrentText("sample"),
        lambda: panel.draws.native.setValue(3),
        lambda: panel.seed.native.setValue(9),
    ):
        changes.clear()
        change()
        assert changes
    assert panel.settings() == UpsampleSettings(factor=5, model="other.safetensors", mode="sample", draws=3, seed=9)


def test_default_factor_is_the_same_everywhere(widget: SRastWidget) -> None:
    assert widget.settings_panel.settings().factor == UpsampleSettings().factor == 4
    help_text = CliRunner().invoke(app, ["upsample", "--help"], terminal_width=200).output
    assert "default 4" in " ".join(help_text.split())


def test_pixels_are_described_next_to_the_factor(
    widget: SRastWidget, qtbot: Any, make_slide: Callable[..., Slide]
) -> None:
    widget.controller.slides.show(LoadedSlide(slide=make_slide(lattice="hex"), source=None))
    wait_ready(qtbot, widget)
    text = widget.settings_panel.resolution.text
    pitch = 100.0
    qtbot.waitUntil(lambda: f"Pixels of {pitch / 4:.3g} µm" in text(), timeout=PATIENCE)
    assert "known after a run" in text()
    widget.settings_panel.factor.native.stepUp()
    qtbot.waitUntil(lambda: f"Pixels of {pitch / 5:.3g} µm" in text(), timeout=PATIENCE)


def test_skill_of_a_run_with_the_same_pixels_is_shown(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    settings = UpsampleSettings(factor=3)
    result = dataclasses.replace(
        make_result(make_slide()), settings=settings, skill=np.array([0.1, 0.1, np.nan, 0.1, 0.1])
    )
    assert "+0.100 nats per count (4 genes of a run)" in describe_skill([prepare_for_display(result)], settings)
    assert "known after a run" in describe_skill([prepare_for_display(result)], UpsampleSettings(factor=4))
