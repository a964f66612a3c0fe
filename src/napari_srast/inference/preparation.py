"""Prepare a slide before its first run: fit what depends neither on the region nor on the genes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_srast._utils.canonical_order import canonical_order
from napari_srast._utils.device_errors import translate_device_errors
from napari_srast._utils.matrix_on_disk import take_rows
from napari_srast._utils.threads import single_threaded, single_threaded_torch
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, translate_memory_errors
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.inference.expression_field import prepare_samples
from napari_srast.inference.fit_cache import FitCache
from napari_srast.inference.fitted_slide import SlideInput, fit_slide
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.slide_histology import fit_slide_histology
from napari_srast.inference.slide_intensity import fit_program_loadings, fit_slide_intensity

if TYPE_CHECKING:
    from napari_srast.models.sasa.embedding import SlideEmbedding

__all__ = ["prepare_slide"]


@translate_memory_errors("while the slide was prepared", "run a small region, which prepares it as well")
def prepare_slide(
    slide: Slide,
    settings: UpsampleSettings | None = None,
    monitor: RunMonitor = NO_MONITOR,
    fit: Callable[..., SlideEmbedding] | None = None,
    cache: FitCache | None = None,
) -> None:
    """Fit SASA, the calibration, the intensity field and the histology of a slide.

    They stay in memory, so that the first run of any region and genes takes about what a later one takes. They change
    no byte of its result.

    Parameters
    ----------
    slide
        The slide.
    settings
        Model, device and seed of the runs to come; other settings play no role. Default: the default settings.
    monitor
        Receives the progress of the stages "align" and "calibrate", and is asked for cancellation.
    fit
        Replacement for :func:`napari_srast.models.sasa.fitting.fit_sasa` that gives the same bytes. Default: that
        function.
    cache
        Disk cache, from which a slide is prepared in an instant if it was before. Default: none.

    Raises
    ------
    SrastError
        The device failed, or its memory or that of this computer is full.
    Cancelled
        The monitor is canceled.
    """
    settings = UpsampleSettings() if settings is None else settings
    order = canonical_order(slide.counts, slide.centers)
    centers = slide.centers[order]
    lattice = detect_lattice(centers, slide.spot_diameter)
    job = UpsampleJob(
        counts=take_rows(slide.counts, order),
        centers=centers,
        lattice=lattice,
        layout=SpotPixelMap.without_pixels(centers, lattice.pitch),
        target_pixels=np.zeros(0, dtype=bool),
        columns=np.zeros(0, dtype=np.int64),
        genes=np.asarray(slide.genes),
        settings=settings,
        image=slide.image,
        spot_area=slide.spot_area,
        monitor=monitor,
        cache=cache,
    )
    with translate_device_errors(settings.device), single_threaded(), single_threaded_torch():
        fitted = fit_slide(SlideInput.of_job(job), monitor, fit, cache, lambda: fit_slide_intensity(job))
        monitor.check_canceled()
        intensity, predictor = fit_slide_intensity(job), None
        fit_program_loadings(job, intensity)
        monitor.check_canceled()
        if slide.image is not None:
            with contextlib.suppress(InputError):  # the image does not cover the spots: a run says so
                predictor = fit_slide_histology(job, fitted.coarse).predictor
            monitor.check_canceled()
        prepare_samples(intensity, job, predictor)
    monitor.report("calibrate", 1, 1)
