"""The part of the window that says how to upsample."""

from __future__ import annotations

from typing import cast

from napari.settings import get_plugin_settings
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QSpinBox,
    QStackedWidget,
    QToolButton,
    QWidget,
)

from napari_srast.core.settings import METHODS, Mode, UpsampleSettings
from napari_srast.geometry.raster import Footprint
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.widgets.common import button, chooser, group
from napari_srast.gui.widgets.tooltips import allow, describe

__all__ = ["SettingsPanel"]

_FIELD_WIDTH = 90
_NO_DIAMETER = "The slide does not say how large its spots are, so only whole cells can be filled."


class SettingsPanel(QWidget):
    """Resolution, footprint, mode and device; the rest is folded away."""

    changed = Signal()

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        box, column = group("Settings")
        self.resolution_kind = chooser("resolution_kind", ("Factor", "Pixel size"))
        self.factor = _decimal("factor", 1.1, 64.0, 2.0, 1)
        self.factor.setSingleStep(1.0)
        self.pixel_size = _decimal("pixel_size", 1e-4, 1e9, 50.0, 3)
        self._resolution = QStackedWidget()
        self._resolution.addWidget(self.factor)
        self._resolution.addWidget(self.pixel_size)
        self.footprint = chooser("footprint", ("cell", "spot"))
        self.mode = chooser("mode", ("mean", "sample", "integer"))
        self.device = chooser("device", ("auto", "cpu"))
        form = _form()
        row = QHBoxLayout()
        row.addWidget(self.resolution_kind, 1)
        row.addWidget(self._resolution, 1)
        form.addRow("Resolution", row)
        row = QHBoxLayout()
        row.addWidget(self.footprint, 1)
        row.addWidget(self.mode, 1)
        form.addRow("Footprint, mode", row)
        form.addRow("Device", self.device)
        column.addLayout(form)
        self.advanced = QToolButton()
        self.advanced.setText("Advanced")
        self.advanced.setCheckable(True)
        self.advanced.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.advanced.setArrowType(Qt.ArrowType.RightArrow)
        describe(self.advanced, "advanced")
        column.addWidget(self.advanced)
        self.method = chooser("method", METHODS)
        self.model = QLineEdit("default")
        describe(self.model, "model")
        self.draws = _count("draws")
        self.steps = _count("steps")
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setMinimumWidth(_FIELD_WIDTH)
        describe(self.seed, "seed")
        self._folded = QWidget()
        form = _form(self._folded)
        form.addRow("Method", self.method)
        self.browse_model = button("browse_model", "…", self._browse_model)
        self.browse_model.setMaximumWidth(30)
        row = QHBoxLayout()
        row.addWidget(self.model, 1)
        row.addWidget(self.browse_model)
        form.addRow("Model", row)
        row = QHBoxLayout()
        row.addWidget(self.draws)
        row.addWidget(self.steps)
        form.addRow("Draws, steps", row)
        form.addRow("Seed", self.seed)
        self._folded.setVisible(False)
        column.addWidget(self._folded)
        outer = QHBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(box)
        self.advanced.toggled.connect(self._fold)
        self.resolution_kind.currentIndexChanged.connect(self._resolution.setCurrentIndex)
        for combo in (self.resolution_kind, self.footprint, self.mode, self.device, self.method):
            combo.currentIndexChanged.connect(self._on_change)
        for spin in (self.factor, self.pixel_size, self.draws, self.steps, self.seed):
            spin.valueChanged.connect(self._on_change)
        self.model.textChanged.connect(self._on_change)
        controller.slides.slide_changed.connect(self.refresh)
        controller.slides.coordinate_system_changed.connect(self.refresh)  # a pixel's side is given in its units
        controller.results.settings_restored.connect(lambda result: self.apply(result.settings))
        defaults = get_plugin_settings("napari-srast").defaults
        self.factor.setValue(defaults.factor)
        self.footprint.setCurrentText(str(defaults.footprint))
        self.mode.setCurrentText(str(defaults.mode))
        self.method.setCurrentText(str(defaults.method))
        self._preferred_device = str(defaults.device)
        self.refresh()

    def settings(self) -> UpsampleSettings:
        """Return what is set.

        Raises
        ------
        SettingsError
            A value makes no sense.
        """
        by_size = self.resolution_kind.currentIndex() == 1
        return UpsampleSettings(
            factor=self.factor.value(),
            pixel_size=self.pixel_size.value() if by_size else None,
            footprint=cast(Footprint, self.footprint.currentText()),
            mode=cast(Mode, self.mode.currentText()),
            device=self.device.currentText(),
            method=self.method.currentText(),
            model=self.model.text().strip() or "default",
            draws=self.draws.value() or None,
            steps=self.steps.value() or None,
            seed=self.seed.value(),
        )

    def apply(self, settings: UpsampleSettings) -> None:
        """Set everything to given settings; a device that is not present counts as auto."""
        self.resolution_kind.setCurrentIndex(0 if settings.pixel_size is None else 1)
        self.factor.setValue(settings.factor)
        if settings.pixel_size is not None:
            self.pixel_size.setValue(settings.pixel_size)
        self.footprint.setCurrentText(settings.footprint)
        self.mode.setCurrentText(settings.mode)
        self.device.setCurrentIndex(max(self.device.findText(settings.device), 0))
        self.method.setCurrentText(settings.method)
        self.model.setText(settings.model)
        self.draws.setValue(settings.draws or 0)
        self.steps.setValue(settings.steps or 0)
        self.seed.setValue(settings.seed)

    def _browse_model(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", "Models (*.safetensors);;All (*)")
        if path:
            self.model.setText(path)

    def refresh(self) -> None:
        """Offer what the slide and the computer can do."""
        opened = self._controller.slides.loaded
        devices = ("auto", "cpu") if opened is None else opened.devices
        current = self.device.currentText() if self.device.count() > 2 else self._preferred_device
        self.device.clear()
        self.device.addItems(list(devices))
        self.device.setCurrentIndex(max(self.device.findText(current), 0))
        slide = self._controller.slides.slide
        if slide is not None and not slide.spot_diameter:
            self.footprint.setCurrentIndex(0)
            allow(self.footprint, _NO_DIAMETER)
        else:
            allow(self.footprint, None)
        unit = "" if slide is None or slide.cs_unit == "unknown" else f" {slide.cs_unit}"
        self.pixel_size.setSuffix(unit)
        self._on_change()

    def _on_change(self) -> None:
        flow = self.method.currentText() == "srast"
        only_flow = None if flow else "Only the method srast has this."
        allow(self.model, only_flow)
        allow(self.browse_model, only_flow)
        allow(self.mode, only_flow)
        deterministic = self.mode.currentText() != "sample"
        allow(self.draws, only_flow or ("Only the mode sample takes draws." if deterministic else None))
        allow(self.steps, only_flow)
        self.changed.emit()

    def _fold(self, on: bool) -> None:
        self._folded.setVisible(on)
        self.advanced.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)


def _form(parent: QWidget | None = None) -> QFormLayout:
    form = QFormLayout() if parent is None else QFormLayout(parent)
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def _decimal(name: str, low: float, high: float, value: float, decimals: int) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setDecimals(decimals)
    spin.setRange(low, high)
    spin.setValue(value)
    spin.setMinimumWidth(_FIELD_WIDTH)  # its own hint has room for the largest number
    describe(spin, name)
    return spin


def _count(name: str) -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(0, 1000)
    spin.setSpecialValueText("default")
    spin.setMinimumWidth(_FIELD_WIDTH)
    describe(spin, name)
    return spin
