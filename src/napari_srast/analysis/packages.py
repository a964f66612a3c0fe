"""Import the packages of the ``analysis`` extra, or say how to install them."""

from __future__ import annotations

import importlib
from typing import Any

from napari_srast.errors import InputError

__all__ = ["import_package"]


def import_package(name: str, purpose: str) -> Any:
    """Import a package of the extra.

    Parameters
    ----------
    name
        The package.
    purpose
        What needs it, such as "Domains need".

    Raises
    ------
    InputError
        The package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise InputError(
            f'{purpose} the package {missing}; install it with: pip install "napari-srast[analysis]".'
        ) from error
