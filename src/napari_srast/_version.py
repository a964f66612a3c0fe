"""Version of the package, from the git tag when it was built."""

from __future__ import annotations

__all__ = ["__version__"]

try:
    from napari_srast._build_version import version as __version__
except ImportError:  # a source tree that was not installed
    __version__ = "0.1.0"
