"""Errors as exit status and one sentence."""

from __future__ import annotations

import pytest

from napari_srast.cli.errors import explain
from napari_srast.cli.virtual_display import DisplayError
from napari_srast.errors import InputError, InternalError


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (InputError("The table\n is empty."), 2, "The table is empty."),
        (DisplayError("No display."), 1, "No display."),
        (InternalError("A sum differs."), 1, "A sum differs."),
        (MemoryError(), 2, "ran out of memory"),
        (PermissionError(13, "Permission denied", "a.zarr"), 2, "'a.zarr' cannot be used (Permission denied)"),
        (ModuleNotFoundError("no", name="qtpy.QtCore"), 1, "pip install 'napari-srast[gui]'"),
        (ModuleNotFoundError("no", name="unheard_of"), 1, "Unexpected ModuleNotFoundError: no;"),
        (KeyError(), 1, "Unexpected KeyError: no message; set NAPARI_SRAST_DEBUG=1"),
    ],
)
def test_error_becomes_a_status_and_one_sentence(error: Exception, status: int, says: str) -> None:
    found, sentence = explain(error)
    assert found == status
    assert says in sentence
    assert "\n" not in sentence
