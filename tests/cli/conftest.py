"""Fixtures of the command-line tests."""

from __future__ import annotations

import pytest
from helpers.tissue import Tissue, make_tissue


@pytest.fixture(scope="session")
def tissue() -> Tissue:
    """Return a tissue whose image shows the distribution of its counts."""
    return make_tissue()


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop ``main`` from hiding the warnings and log lines of later tests."""
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
