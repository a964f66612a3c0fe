"""TODO docstring."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator

from napari_srast.core.sinks import ResultSink
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod
from napari_srast.inference.tiles import Tiling

__all__ = ["Executor", "Stop"]

Stop = Callable[[], bool] | None


class Executor(ABC):
    """Prepares a job and splits its units."""

    @abstractmethod
    def prepare(self, job: UpsampleJob) -> Generator[tuple[str, int, int], None, PreparedMethod]:
        """Make the job's method ready; yields (stage, done, total)."""

    @abstractmethod
    def split(
        self, job: UpsampleJob, method: PreparedMethod, cutter: Tiling, collector: ResultSink
    ) -> Generator[tuple[str, int, int], None, tuple[str, ...]]:
        """Hand all units, split, to the collector; yields (stage, done, total) and returns notices."""
