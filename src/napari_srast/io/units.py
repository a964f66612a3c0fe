"""Recognize the names of length units in tables and stores."""

from __future__ import annotations

from typing import Literal

__all__ = ["LengthUnit", "parse_unit"]

LengthUnit = Literal["um", "px", "array units"]

# Case folding turns the micro sign into the Greek letter.
_MICROMETERS = ("um", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres")
_UNITS: dict[str, LengthUnit] = {
    **dict.fromkeys(_MICROMETERS, "um"),
    **dict.fromkeys(("px", "pixel", "pixels"), "px"),
    "array units": "array units",
}


def parse_unit(name: str) -> LengthUnit | None:
    """Return the unit that a text names; None if it names no known one.

    Examples
    --------
    >>> parse_unit("\u00b5m"), parse_unit("Pixels"), parse_unit("global")
    ('um', 'px', None)
    """
    return _UNITS.get(name.strip().casefold())
