"""Recognize the names of length units in tables and stores."""

from __future__ import annotations

from typing import Literal

__all__ = ["LengthUnit", "micrometers_per_unit", "parse_unit"]

LengthUnit = Literal["um", "px", "array units"]

# Case folding turns the micro sign into the Greek letter.
_MICROMETERS = ("um", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres")
_UNITS: dict[str, LengthUnit] = {
    **dict.fromkeys(_MICROMETERS, "um"),
    **dict.fromkeys(("px", "pixel", "pixels"), "px"),
    "array units": "array units",
}
_LENGTHS = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 0.001),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1000.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10_000.0),
}


def parse_unit(name: str) -> LengthUnit | None:
    """Return the unit that a text names; None if it names no known one.

    Examples
    --------
    >>> parse_unit("\u00b5m"), parse_unit("Pixels"), parse_unit("global")
    ('um', 'px', None)
    """
    return _UNITS.get(name.strip().casefold())


def micrometers_per_unit(name: str) -> float | None:
    """Return the length of a unit in micrometers; None for micrometers themselves and for what is no length.

    Examples
    --------
    >>> micrometers_per_unit("mm"), micrometers_per_unit("um"), micrometers_per_unit("px")
    (1000.0, None, None)
    """
    return _LENGTHS.get(name.strip().casefold())
