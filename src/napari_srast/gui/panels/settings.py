"""Panel with the upsampling settings, built from magicgui widgets."""

from __future__ import annotations

from typing import Any, get_args

from magicgui.widgets import CheckBox, ComboBox, LineEdit, PushButton, SpinBox, Widget
from napari.settings import get_plugin_settings
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QToolButton, QWidget

from napari_srast.core.gene_list import parse_expression
from napari_srast.core.settings import METHODS, Mode, UpsampleSettings
from napari_srast.geometry.raster import Footprint
from napari_srast.gui.controllers.controller import Controller
from napari_srast.gui.state.run_estimate import describe_resolution, describe_skill
from napari_srast.gui.widgets.common import allow_narrow, label
from napari_srast.gui.widgets.number_fields import ExactFloatSpinBox, OptionalCountSpinBox
from napari_srast.gui.widgets.section import Section
from napari_srast.gui.widgets.tooltips import allow, describe
from napari_srast.inference.run_estimate import Estimate

__all__ = ["SettingsPanel"]

_NUMBER_WIDTH = 90  # pixels; the preferred width of a spin box would have room for its largest number
_OPTIONAL_WIDTH = 104  # shows "default"
_MAX_COUNT = 1000
_MAX_SEED = 2**32 - 1
_FACTOR, _PIXEL_SIZE = "Factor", "Pixel size"
_NO_DIAMETER = "The slide has no spot diameter, so only the footprint 'cell' is available."
_ONLY_SRAST = "Only the method 'srast' uses this setting."
_ONLY_SAMPLE = "Only the mode 'sample' uses this setting."


class SettingsPanel(QWidget):
    """Form for :class:`UpsampleSettings`; rarely used settings are in a section that is collapsed at first.

    Parameters
    ----------
    controller
        Controller of the window.

    Attributes
    ----------
    factor, pixel_size, footprint, mode, method, expression, draws, steps, model, device, seed
        magicgui widgets of the fields of the same name; ``widget.value`` is the value of the field.
    resolution
        Label with the pixels of the next run.
    resolution_kind
        magicgui widget that chooses whether ``factor`` or ``pixel_size`` is used.
    prepares_slides, clear_cache
        magicgui widgets that switch the preparation of slides, and clear its disk cache.
    """

    changed = Signal()

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        defaults = get_plugin_settings("napari-srast").defaults
        self._preferred_device = str(defaults.device)
        self._create_fields(defaults)
        basic, rare = QWidget(), QWidget()
        _add_rows(
            basic,
            {
                "Resolution": (self.resolution_kind, self.factor, self.pixel_size),
                "Footprint, mode": (self.footprint, self.mode),
                "Device": (self.device,),
            },
        )
        _add_rows(
            rare,
            {
                "Method": (self.method,),
                "Model": (self.model, self._browse),
                "Expression": (self.expression,),
                "Draws, steps": (self.draws, self.steps),
                "Seed": (self.seed,),
                "First run": (self.prepares_slides, self.clear_cache),
            },
        )
        self.advanced = QToolButton()
        self.advanced.setText("Advanced")
        self.advanced.setCheckable(True)
        self.advanced.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.advanced.setArrowType(Qt.ArrowType.RightArrow)
        describe(self.advanced, "advanced")
        rare.setVisible(False)
        self.advanced.toggled.connect(rare.setVisible)
        self.advanced.toggled.connect(self._set_arrow)
        self.advanced.toggled.connect(self._show_cache)
        self.section = Section("section_settings", "Settings")
        column = self.section.column
        self.resolution = label()
        for part in (self.resolution, basic, self.advanced, rare):
            column.addWidget(part)
        self.section.fill(self)
        self._connect()
        self.refresh()

    def _create_fields(self, defaults: Any) -> None:
        """Create the widget of each field with the user's preferred values."""
        self.resolution_kind = ComboBox(name="resolution_kind", choices=(_FACTOR, _PIXEL_SIZE))
        self.factor = ExactFloatSpinBox(name="factor", value=defaults.factor, min=1.1, max=64, step=1, decimals=1)
        self.pixel_size = ExactFloatSpinBox(name="pixel_size", value=50, min=1e-4, max=1e9, step=1, decimals=3)
        self.footprint = ComboBox(name="footprint", choices=get_args(Footprint), value=str(defaults.footprint))
        self.mode = ComboBox(name="mode", choices=get_args(Mode), value=str(defaults.mode))
        self.device = ComboBox(name="device", choices=("auto", "cpu"))
        self.method = ComboBox(name="method", choices=METHODS, value=str(defaults.method))
        self.model = LineEdit(name="model", value="default")
        self.expression = LineEdit(name="expression", value="auto")
        self.draws = OptionalCountSpinBox(name="draws", max=_MAX_COUNT)
        self.steps = OptionalCountSpinBox(name="steps", max=_MAX_COUNT)
        self.seed = SpinBox(name="seed", min=0, max=_MAX_SEED)
        preparation = self._controller.preparation
        self.prepares_slides = CheckBox(name="prepares_slides", text="Prepare slides", value=preparation.is_on)
        self.clear_cache = PushButton(name="clear_cache", text="Clear cache")
        self._browse = PushButton(name="browse_model", text="…")
        self.browse_model = self._browse.native
        self.browse_model.setMaximumWidth(30)
        for combo in (self.resolution_kind, self.footprint, self.mode, self.device, self.method):
            allow_narrow(combo.native)
        for spin in (self.factor, self.pixel_size, self.draws, self.steps, self.seed):
            spin.native.setMinimumWidth(_NUMBER_WIDTH)
        for optional in (self.draws, self.steps):
            optional.native.setMinimumWidth(_OPTIONAL_WIDTH)
        for widget in (*self._fields.values(), self.resolution_kind, self._browse, *self._preparation):
            describe(widget.native, widget.name)

    @property
    def _fields(self) -> dict[str, Any]:
        """Widgets by the name of their field of :class:`UpsampleSettings`."""
        fields = (
            *(self.factor, self.pixel_size, self.footprint, self.method, self.mode),
            *(self.expression, self.draws, self.steps, self.model, self.device, self.seed),
        )
        return {widget.name: widget for widget in fields}

    @property
    def _preparation(self) -> tuple[CheckBox, PushButton]:
        return self.prepares_slides, self.clear_cache

    def _connect(self) -> None:
        preparation = self._controller.preparation
        preparation.settings = self.settings
        self.prepares_slides.changed.connect(preparation.set_on)
        self.clear_cache.changed.connect(preparation.clear_cache)
        preparation.changed.connect(self._show_cache)
        self._browse.changed.connect(self._browse_model)
        for widget in (*self._fields.values(), self.resolution_kind):
            widget.changed.connect(self._on_change)
        slides = self._controller.slides
        slides.slide_changed.connect(self.refresh)
        slides.coordinate_system_changed.connect(self.refresh)  # the pixel size is in its unit
        self._controller.results.settings_restored.connect(lambda result: self.apply(result.settings))

    def settings(self) -> UpsampleSettings:
        """Return the settings.

        Raises
        ------
        SettingsError
            A value is out of range.
        """
        values = {name: widget.value for name, widget in self._fields.items()}
        values["model"] = values["model"].strip() or "default"
        values["expression"] = parse_expression(values["expression"].strip() or "auto")
        if self.resolution_kind.value == _FACTOR:
            values["pixel_size"] = None
        return UpsampleSettings(**values)

    def apply(self, settings: UpsampleSettings) -> None:
        """Set all fields to given settings; a device that this computer does not have becomes "auto"."""
        self.resolution_kind.value = _FACTOR if settings.pixel_size is None else _PIXEL_SIZE
        for name, widget in self._fields.items():
            value = getattr(settings, name)
            if name == "device" and value not in widget.choices:
                value = "auto"
            if isinstance(value, tuple):
                value = ", ".join(value)
            if name != "pixel_size" or value is not None:
                widget.value = value
        self._on_change()  # an exact value may differ from the previous one although both look the same

    def show_resolution(self, cost: Estimate | None) -> None:
        """Show what the pixels of the next run are like, and their skill if a run has shown it."""
        slide = self._controller.slides.slide
        text = ""
        if cost is not None and slide is not None:
            skill = describe_skill(self._controller.results.all, self.settings())
            text = f"{describe_resolution(cost, slide.cs_unit)} {skill}"
        self.resolution.setText(text)
        self.resolution.setVisible(bool(text))

    def refresh(self) -> None:
        """Offer the devices of the computer and the footprints of the slide; show the unit of the pixel size."""
        loaded, slide = self._controller.slides.loaded, self._controller.slides.slide
        devices = ("auto", "cpu") if loaded is None else loaded.devices
        device = self._preferred_device if len(self.device.choices) <= 2 else self.device.value
        self.device.choices = devices
        self.device.value = device if device in devices else "auto"
        has_no_diameter = slide is not None and not slide.spot_diameter
        if has_no_diameter:
            self.footprint.value = "cell"
        allow(self.footprint.native, _NO_DIAMETER if has_no_diameter else None)
        unit = "" if slide is None or slide.cs_unit == "unknown" else f" {slide.cs_unit}"
        self.pixel_size.native.setSuffix(unit)
        self._on_change()

    def _on_change(self) -> None:
        by_factor = self.resolution_kind.value == _FACTOR
        self.factor.native.setVisible(by_factor)
        self.pixel_size.native.setVisible(not by_factor)
        only_srast = None if self.method.value == "srast" else _ONLY_SRAST
        only_sample = only_srast or (None if self.mode.value == "sample" else _ONLY_SAMPLE)
        for widget in (self.model, self._browse, self.mode):
            allow(widget.native, only_srast)
        for count in (self.draws, self.steps):
            allow(count.native, only_sample)
        resolution = f"factor {self.factor.value:g}" if by_factor else f"pixels of {self.pixel_size.value:g}"
        unusual = () if self.method.value == "srast" else (self.method.value,)
        self.section.set_summary(", ".join((resolution, self.footprint.value, self.mode.value, *unusual)))
        self.changed.emit()
        self._controller.preparation.prepare_later()

    def _show_cache(self) -> None:
        """Show the size of the disk cache on the button that clears it."""
        if not self.advanced.isChecked():
            return
        n_bytes = self._controller.preparation.cache_use().n_bytes
        self.clear_cache.text = f"Clear cache ({n_bytes / 1e6:,.0f} MB)" if n_bytes else "Clear cache"
        allow(self.clear_cache.native, None if n_bytes else "The cache is empty.")

    def _browse_model(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", "Models (*.safetensors);;All (*)")
        if path:
            self.model.value = path

    def _set_arrow(self, expanded: bool) -> None:
        self.advanced.setArrowType(Qt.ArrowType.DownArrow if expanded else Qt.ArrowType.RightArrow)


def _add_rows(parent: QWidget, rows: dict[str, tuple[Widget, ...]]) -> None:
    """Lay out magicgui widgets as a form; ``rows`` are by their label."""
    form = QFormLayout(parent)
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for title, widgets in rows.items():
        row = QHBoxLayout()
        row.setSpacing(6)
        for widget in widgets:
            row.addWidget(widget.native, 0 if isinstance(widget, PushButton) else 1)
        form.addRow(title, row)
