"""Names that users give to runs."""

from __future__ import annotations

import re

from napari_srast.errors import SettingsError

__all__ = ["check_run_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}")
_RESERVED_ENDINGS = ("_expression", "_labels", "_pixels", "_table")
_RESERVED_START = "region_"


def check_run_name(name: str | None) -> str | None:
    """Return a name of a run if it can be part of the names of its elements in a store; None stays None.

    Raises
    ------
    SettingsError
        The name has other characters than letters, digits and underscores, is too long, or could be mistaken for an
        element of another run.
    """
    if name is None:
        return None
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"The name of the run is '{name}', but must have 1 to 64 letters, digits and underscores, and start with a "
            "letter or a digit, such as 'tumor_4x'."
        )
    lower = name.casefold()
    if lower.endswith(_RESERVED_ENDINGS) or lower.startswith(_RESERVED_START):
        raise SettingsError(
            f"The name of the run is '{name}', but a name that starts with '{_RESERVED_START}' or ends with one of "
            f"{', '.join(_RESERVED_ENDINGS)} could be mistaken for another element; choose another one."
        )
    return name
