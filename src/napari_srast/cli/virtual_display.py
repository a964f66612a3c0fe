"""Run commands that need a window on a machine without a display."""

from __future__ import annotations

import os
import shutil
import subprocess  # nosec B404 - one fixed program, see run_in_virtual_display
import sys
from collections.abc import Sequence

__all__ = ["DisplayError", "has_display", "in_virtual_display", "run_in_virtual_display"]

_MARK = "NAPARI_SRAST_VIRTUAL_DISPLAY"
_SCREEN = "-screen 0 1600x1000x24"


class DisplayError(Exception):
    """Neither a real nor a virtual display is available."""


def has_display() -> bool:
    """Return whether a window can be shown."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def in_virtual_display() -> bool:
    """Return whether this process was started by :func:`run_in_virtual_display`."""
    return os.environ.get(_MARK) == "1"


def run_in_virtual_display(arguments: Sequence[str]) -> int:
    """Run ``napari-srast ARGUMENTS`` under Xvfb and return its exit status.

    napari needs OpenGL, which Qt's "offscreen" platform lacks, so a virtual X server is used. Everything that the
    command prints goes to standard error, because xvfb-run mixes the two streams.

    Raises
    ------
    DisplayError
        xvfb-run or xauth is not installed.
    """
    missing = [package for program, package in (("xvfb-run", "xvfb"), ("xauth", "xauth")) if not shutil.which(program)]
    if missing:
        raise DisplayError(
            f"Without a display, napari needs a virtual one; install it with: apt-get install {' '.join(missing)}, "
            "or run this on a desktop."
        )
    environment = {name: value for name, value in os.environ.items() if name not in ("WAYLAND_DISPLAY", "DISPLAY")}
    environment |= {_MARK: "1", "QT_QPA_PLATFORM": "xcb"}
    command = ["xvfb-run", "-a", "-s", _SCREEN, sys.executable, "-m", "napari_srast", *arguments]
    # No shell is used; the program is fixed, and its arguments are the ones that the user gave to this program.
    return subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode  # noqa: S603  # nosec B603
