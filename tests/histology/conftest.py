"""Fixtures of the histology tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers.tissue import Tissue, make_tissue


@pytest.fixture(scope="session")
def tissue() -> Tissue:
    """Return a tissue with structure at half a pitch and at several pitches, surrounded by bare glass."""
    return make_tissue()


@pytest.fixture(scope="session")
def tissue_maker() -> Callable[..., Tissue]:
    """Return the function that makes a tissue for a seed."""
    return make_tissue
