"""Keep warnings of libraries that a user can do nothing about away from napari, which shows them as notifications."""

from __future__ import annotations

import warnings

__all__ = ["ignore_torch_deprecations"]


def ignore_torch_deprecations() -> None:
    """Ignore warnings that parts of PyTorch are deprecated; torch-geometric causes them when it is imported.

    The filter stays, because a temporary one would be shared with all other threads.
    """
    for category in (DeprecationWarning, FutureWarning):  # newer versions of PyTorch use the second one
        warnings.filterwarnings("ignore", message=r"`?torch\.jit\.", category=category)
