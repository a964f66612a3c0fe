"""Packages of the extra ``analysis``."""

from __future__ import annotations

import json

import pytest

from napari_srast.analysis.packages import import_package
from napari_srast.errors import InputError


def test_missing_package_names_its_purpose_and_the_extra() -> None:
    assert import_package("json", "Domains need") is json
    with pytest.raises(InputError, match=r'Domains need the package nowhere; .*"napari-srast\[analysis\]"'):
        import_package("nowhere", "Domains need")
