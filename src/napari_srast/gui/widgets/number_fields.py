"""magicgui number fields for settings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from magicgui.widgets import FloatSpinBox

__all__ = ["ExactFloatSpinBox", "OptionalCountSpinBox"]

_MAX_DECIMALS: Final = 6


class ExactFloatSpinBox(FloatSpinBox):
    """Spin box that rounds the displayed number but keeps the exact value that the program has set.

    Typing or stepping replaces the exact value. The spin box displays up to six decimals, and its limit instead of a
    value outside its range.
    """

    _exact: float | None = None
    _displayed: float | None = None

    def __init__(self, *, decimals: int, **options: Any) -> None:
        self._decimals = decimals
        super().__init__(**options)

    def get_value(self) -> float:
        """Return the exact value, or the displayed number if the user has changed it."""
        displayed = float(super().get_value())
        if self._exact is not None and self._displayed in (None, displayed):
            return self._exact
        return displayed

    def set_value(self, value: float) -> None:
        """Set the exact value."""
        self._exact, self._displayed = float(value), None
        exponent = Decimal(repr(self._exact)).normalize().as_tuple().exponent
        n_decimals = -exponent if isinstance(exponent, int) else 0
        self.native.setDecimals(min(max(n_decimals, self._decimals), _MAX_DECIMALS))
        super().set_value(min(max(self._exact, self.min), self.max))
        self._displayed = float(super().get_value())


class OptionalCountSpinBox(FloatSpinBox):
    """Spin box for a positive integer, or for None, which is displayed as "default"."""

    def __init__(self, *, max: int, **options: Any) -> None:
        super().__init__(min=0, max=max, step=1, **options)
        self.native.setDecimals(0)
        self.native.setSpecialValueText("default")

    def get_value(self) -> int | None:  # type: ignore[override]
        """Return the number, or None for "default"."""
        return int(super().get_value()) or None

    def set_value(self, value: int | None) -> None:  # type: ignore[override]
        """Set the number, or None for "default"."""
        super().set_value(float(value or 0))
