"""Replace options of the command line in messages by the controls of the window.

Errors and notices are shared with the command line, and name its options as the next step.
"""

from __future__ import annotations

import re

__all__ = ["name_controls"]

_CONTROLS = {
    "coordinate-system": "'Coordinates'",
    "image": "'Image'",
    "library": "'Section'",
    "spots": "'Spots'",
    "table": "'Table'",
}
"""Choosers of the panel that do what an option does."""
_SENTENCES = (  # patterns and replacements, before the single options
    (r"give it with --image when importing its slide: .*", "open its slide, and give the image in the dialog."),
    (r"give it with --region: .*", "open its slide, and load the region with 'Files' below 'Regions'."),
    (
        r"if it is a region, give it to napari-srast upsample with --region",
        "if it is a region, open its slide, and load it with 'Files' below 'Regions'",
    ),
    (r"--image none", "'none' as 'Image'"),
    (r"exclude it with 'none' as 'Image'", "choose 'none' as 'Image'"),
    (r"leave --image out", "leave the image out"),
    (r"\(set it with --spot-diameter when importing\)", "(to set it, import the slide with 'napari-srast import')"),
    (r"when importing the slide \(--spot-diameter\)", "by importing the slide with 'napari-srast import'"),
    (r"import with --spot-shape circle", "import with 'napari-srast import' as circles"),
    (r"import bins with --spot-shape square", "import bins with 'napari-srast import' as squares"),
    (r"[Cc]hoose --([a-z]+) (\S+?)(?=[.,;]|$)", r"choose '\2' with --\1"),
)
_OPTION = re.compile(r"(?<![\w-])(with )?--([a-z][a-z-]*[a-z])")


def name_controls(text: str) -> str:
    """Return a message in which each option of the command line is the control of the window that does the same.

    An option without a control is left to the command line.

    Parameters
    ----------
    text
        A message for the user.
    """
    if "--" not in text:
        return text
    for pattern, replacement in _SENTENCES:
        text = re.sub(pattern, replacement, text)
    return _OPTION.sub(_name, text)


def _name(match: re.Match[str]) -> str:
    preposition, option = match[1] or "", match[2]
    if option in _CONTROLS:
        return f"{preposition}{_CONTROLS[option]}"
    name = option.replace("-", " ")
    return f"with the option '{name}' of 'napari-srast import'" if preposition else f"the {name}"
