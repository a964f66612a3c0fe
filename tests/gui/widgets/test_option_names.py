"""Messages in the window name its controls, not options of the command line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import napari_srast
from napari_srast.gui.widget import SRastWidget
from napari_srast.gui.widgets.option_names import name_controls

pytestmark = pytest.mark.gui
OPTION = re.compile(r"(?<![\w-])--[a-z]")
PACKAGE = Path(napari_srast.__file__).parent
COMMAND_LINE = (
    "cli",
    "training",
    "evaluation",
    "benchmarks",
    "gui/export/command_line.py",
    "gui/widgets/option_names.py",
)


def messages() -> list[str]:
    """Return all texts of the package that name an option and may be shown in the window."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        if not str(path.relative_to(PACKAGE)).startswith(COMMAND_LINE):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                text = node.value if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and OPTION.search(text):
                    found.append(text)
    return found


def test_no_message_of_the_package_names_an_option_in_the_window() -> None:
    texts = messages()
    assert len(texts) > 30
    assert [text for text in texts if OPTION.search(name_controls(text))] == []


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "The image was not used, or exclude it with --image none.",
            "The image was not used, or choose 'none' as 'Image'.",
        ),
        (
            "It has several images; choose one with --image: a, b.",
            "It has several images; choose one with 'Image': a, b.",
        ),
        ("Choose other ones with --spots and --table.", "Choose other ones with 'Spots' and 'Table'."),
        (
            "55 was used (set it with --spot-diameter when importing).",
            "55 was used (to set it, import the slide with 'napari-srast import').",
        ),
        (
            "'a.png' is an image; give it with --image when importing its slide: napari-srast import A --image a.png",
            "'a.png' is an image; open its slide, and give the image in the dialog.",
        ),
        ("Choose one with --bin-size: 8.", "Choose one with the option 'bin size' of 'napari-srast import': 8."),
        ("A pause -- and more.", "A pause -- and more."),
    ],
)
def test_next_steps_are_those_of_the_window(message: str, shown: str) -> None:
    assert name_controls(message) == shown


def test_error_status_and_tooltips_name_the_controls(widget: SRastWidget) -> None:
    """The status line, and the tooltip of a control that cannot be used."""
    messages = widget.controller.messages
    for signal in (messages.status_message, messages.error_message):
        signal.emit("Choose one with --image: a.")
        assert widget.run_bar.status.text() == "Choose one with 'Image': a."
    widget.run_bar.allow_runs("Choose one with --spots: a.")
    assert "--" not in widget.run_bar.run.toolTip()
