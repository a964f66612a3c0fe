"""``python -m napari_srast`` is the command line."""

from __future__ import annotations

import sys

from napari_srast.cli import main

if __name__ == "__main__":
    sys.exit(main())
