from __future__ import annotations

import pytest

from napari_srast.gui.layers.gene_colors import GeneStyle

pytestmark = pytest.mark.gui


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ((0.0, 1.811), "0 to 1.81"),
        ((0.056, 22.44), "0.1 to 22.4"),
        ((0.25, 2.0), "0.25 to 2"),
        ((54.2, 1234.5), "54 to 1,234"),
        ((0.0, 0.00123), "0 to 0.00123"),
        ((0.0, 100.0), "0 to 100"),
        ((0.0, 0.0), "0 to 0"),
    ],
)
def test_contrast_limits_are_rounded_for_reading(limits: tuple[float, float], text: str) -> None:
    assert GeneStyle("ERBB2", "#56b4e9", limits).scale == text
