"""Output of other packages that is suppressed."""

from __future__ import annotations

import sys
import warnings

import pytest

from napari_srast._utils.quiet import suppress_output


def test_prints_and_warnings_are_suppressed(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with suppress_output():
            sys.stdout.write("progress")
            warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        with pytest.raises(DeprecationWarning):
            warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
    sys.stdout.write("result")
    assert capsys.readouterr().out == "result"
