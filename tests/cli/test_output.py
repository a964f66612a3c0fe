"""Figures on the terminal."""

from __future__ import annotations

import pytest

from napari_srast.cli.output import print_figures


@pytest.mark.contract(
    section="Requests",
    case="`info` on a slide with several notices",
    response="each on a line of its own",
)
def test_each_sentence_has_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_figures({"notices": ["The first is long.", "The second follows."], "genes": ["A", "B"], "problems": []})
    assert capsys.readouterr().out.splitlines() == [
        "notices   The first is long.",
        "          The second follows.",
        "genes     A, B",
        "problems  -",
    ]
