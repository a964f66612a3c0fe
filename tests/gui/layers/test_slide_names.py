"""Captions of slides fit into the space above them."""

from __future__ import annotations

import pytest

from napari_srast.gui.layers.slide_names import fit_caption

TITLE = "visium_mouse_muscle_vis5a"


@pytest.mark.parametrize(
    ("details", "pixels", "caption"),
    [
        ("current", 490, "visium_mouse_muscle_vis5a (current)"),
        ("", 187, "visium_mo…le_vis5a"),
        ("without ERBB2, KRT19", 432, "visium_mo…cle_vis5a (without ERBB2, KRT19)"),
        ("not to scale, without ERBB2, KRT19", 371, "visium…vis5a (not to scale, withou…)"),
        ("without ERBB2, KRT19", 187, "visium…vis5a"),
    ],
)
def test_caption_leaves_out_the_middle_of_the_name_first(details: str, pixels: float, caption: str) -> None:
    assert fit_caption(TITLE, details, pixels) == caption
    assert len(caption) <= pixels / 10
