"""TODO docstring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """One step of a run, as told to progress bars: ``done`` of ``total`` units of a named stage."""

    stage: str
    done: int
    total: int
    fraction: float
