"""Make the pictures of the documentation again: run the demo headless and keep its screenshot.

Run it in the environment that bootstrap.py made: ``python docs/make_pictures.py``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).resolve().parent / "images"


def main() -> int:
    """Write docs/images/overlay.png; return the exit status of the demo."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "napari_srast", "demo", "--headless", "--out", folder]
        status = subprocess.run(command, check=False).returncode
        if status == 0:
            IMAGES.mkdir(exist_ok=True)
            picture = Image.open(Path(folder) / "overlay.png").convert("RGB")
            picture.save(IMAGES / "overlay.png", optimize=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
