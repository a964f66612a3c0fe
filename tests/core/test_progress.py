"""Progress reports and cancellation of a run."""

from __future__ import annotations

import threading

import pytest

from napari_srast.core.progress import STAGE_SHARES, Progress, RunMonitor, iterate_progress
from napari_srast.errors import Cancelled


def test_fractions_rise_from_stage_to_stage_up_to_one() -> None:
    steps: list[Progress] = []
    monitor = RunMonitor(on_progress=steps.append)
    for stage in STAGE_SHARES:
        for done in range(3):
            monitor.report(stage, done, 2)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == pytest.approx(1)


def test_stage_without_steps_is_reported_as_not_begun() -> None:
    steps: list[Progress] = []
    RunMonitor(on_progress=steps.append).report("split", 0, 0)
    assert steps[0].fraction == pytest.approx(1 - STAGE_SHARES["split"])


def test_work_outside_a_run_has_the_fraction_of_its_own_steps() -> None:
    steps: list[Progress] = []
    monitor = RunMonitor(on_progress=steps.append)
    monitor.report("structure", 1, 4)
    monitor.report_fraction("saving", 0.3)
    assert steps == [Progress("structure", 1, 4, 0.25), Progress("saving", 0, 1, 0.3)]


def test_fraction_of_a_stage_counts_the_stages_before() -> None:
    steps: list[Progress] = []
    RunMonitor(on_progress=steps.append).report_fraction("align", 0.5)
    assert steps[0].fraction == pytest.approx(STAGE_SHARES["raster"] + STAGE_SHARES["align"] / 2)


def test_monitor_of_workers_reports_nothing_and_stops_for_both_reasons() -> None:
    reports: list[Progress] = []
    canceled, halted = threading.Event(), threading.Event()
    monitor = RunMonitor(on_progress=reports.append, should_stop=canceled.is_set).for_workers(halted.is_set)
    monitor.report("split", 1, 2)
    monitor.check_canceled()
    assert reports == []
    for event in (canceled, halted):
        event.set()
        with pytest.raises(Cancelled):
            monitor.check_canceled()
        event.clear()


def test_listener_hears_a_step_before_the_callback() -> None:
    heard: list[str] = []
    monitor = RunMonitor(on_progress=lambda _: heard.append("callback")).listening(lambda _: heard.append("listener"))
    monitor.report("split", 1, 2)
    assert heard == ["listener", "callback"]


def _count_to_three(monitor: RunMonitor) -> str:
    for done in range(3):
        monitor.report("split", done, 3)
    return "done"


def test_generator_yields_the_reports_and_returns_the_result() -> None:
    steps = iterate_progress(_count_to_three)
    assert [next(steps).done for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == "done"


def test_generator_raises_what_the_function_raises() -> None:
    def fail(monitor: RunMonitor) -> None:
        monitor.report("split", 0, 1)
        raise ValueError("no pixels")

    with pytest.raises(ValueError, match="no pixels"):
        list(iterate_progress(fail))


@pytest.mark.parametrize("how", ["closed", "stopped"])
def test_function_ends_with_its_generator(how: str) -> None:
    ended, stop = threading.Event(), threading.Event()

    def work(monitor: RunMonitor) -> None:
        try:
            while True:
                monitor.report("split", 0, 1)
                monitor.check_canceled()
        finally:
            ended.set()

    steps = iterate_progress(work, stop.is_set)
    next(steps)
    if how == "closed":
        steps.close()
    else:
        stop.set()
        with pytest.raises(Cancelled):
            list(steps)
    assert ended.is_set()
