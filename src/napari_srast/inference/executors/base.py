"""Define what prepares a method and predicts its tiles."""

from __future__ import annotations

from abc import ABC, abstractmethod

from napari_srast.core.sinks import ResultSink
from napari_srast.inference.fit_cache import FitCache
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import PreparedMethod
from napari_srast.inference.tiles import Tiling

__all__ = ["Executor"]


class Executor(ABC):
    """Prepare the method of a job and predict its tiles.

    Both methods report progress to the job's monitor, from the calling thread, and check it for cancellation. An
    exception of the monitor ends all computing before it leaves the method.

    Attributes
    ----------
    is_local
        Whether it computes in the memory of this computer.
    cache
        Disk cache for what is fitted to a slide, which changes no byte; None: no cache.
    """

    is_local = True
    cache: FitCache | None = None

    @abstractmethod
    def prepare(self, job: UpsampleJob) -> PreparedMethod:
        """Prepare the method of a job."""

    @abstractmethod
    def predict_tiles(
        self, job: UpsampleJob, method: PreparedMethod, tiling: Tiling, sink: ResultSink
    ) -> tuple[str, ...]:
        """Predict all tiles and hand them to the sink; return warnings for the user."""
