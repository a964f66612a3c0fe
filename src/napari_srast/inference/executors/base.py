"""TODO docstring."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator

from napari_srast.core.sinks import Collector
from napari_srast.inference.job import Job
from napari_srast.inference.methods.base import Method
from napari_srast.inference.tiles import Cutter

__all__ = ["Stop", "Workers"]

Stop = Callable[[], bool] | None


class Workers(ABC):
    """Prepares a job and splits its units."""

    @abstractmethod
    def prepare(self, job: Job) -> Generator[tuple[str, int, int], None, Method]:
        """Make the job's method ready; yields (stage, done, total)."""

    @abstractmethod
    def split(
        self, job: Job, method: Method, cutter: Cutter, collector: Collector
    ) -> Generator[tuple[str, int, int], None, tuple[str, ...]]:
        """Hand all units, split, to the collector; yields (stage, done, total) and returns notices."""
