"""Tests of the Dask executor: equal bytes, killed workers, cancellation, and devices of the workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.results import same_bytes
from helpers.tiling import use_small_tiles

from napari_srast.api import upsample
from napari_srast.core.progress import Progress
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled, SettingsError

distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")

from napari_srast.inference.executors import dask as dask_module  # noqa: E402
from napari_srast.inference.executors.dask import DaskExecutor  # noqa: E402

MakeSlide = Callable[..., Slide]


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    """Return a client of two workers, each in a process of its own, as on two computers."""
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit="3GB"
    )
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_tiles(monkeypatch, max_pixels=40)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("method", ["gp", "srast"])
def test_cluster_gives_the_bytes_of_the_local_run(
    client: distributed.Client, make_slide: MakeSlide, method: str
) -> None:
    slide = make_slide(9, 9, lattice="hex")
    seen: list[Progress] = []
    local = upsample(slide, method=method)
    spread = upsample(slide, method=method, executor=DaskExecutor(client), progress=seen.append)
    assert same_bytes(spread.counts, local.counts)
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    assert max(p.total for p in seen) > 4


@pytest.mark.usefixtures("small_tiles")
def test_counts_and_results_do_not_go_through_the_scheduler(
    client: distributed.Client, make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide(9, 9)
    local = upsample(slide, method="gp")

    def refuse(**_: Any) -> None:
        raise AssertionError("data went through the scheduler")

    for handler in ("scatter", "gather"):
        assert handler in client.cluster.scheduler.handlers
        monkeypatch.setitem(client.cluster.scheduler.handlers, handler, refuse)
    spread = upsample(slide, method="gp", executor=DaskExecutor(client))
    assert same_bytes(spread.counts, local.counts)


@pytest.mark.usefixtures("small_tiles")
def test_workers_that_cannot_be_reached_get_data_through_the_scheduler(
    client: distributed.Client, make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide(9, 9)
    local = upsample(slide, method="gp")
    scatter, directly = client.scatter, []

    def unreachable(data: Any, *, direct: bool, **options: Any) -> Any:
        directly.append(direct)
        if direct:
            raise OSError("no route to host")
        return scatter(data, direct=False, **options)

    monkeypatch.setattr(client, "scatter", unreachable)
    spread = upsample(slide, method="gp", executor=DaskExecutor(client))
    assert same_bytes(spread.counts, local.counts)
    assert directly[:3] == [True] * 3
    assert not any(directly[3:])


@pytest.mark.usefixtures("small_tiles")
def test_killed_worker_is_retried(client: distributed.Client, make_slide: MakeSlide) -> None:
    slide = make_slide(12, 12)
    local = upsample(slide, method="pycnophylactic")
    killed = []

    def kill_one(step: Progress) -> None:
        if step.stage == "split" and step.done == 1 and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    spread = upsample(slide, method="pycnophylactic", executor=DaskExecutor(client), progress=kill_one)
    assert killed
    assert same_bytes(spread.counts, local.counts)


def test_run_on_a_cluster_can_be_canceled(client: distributed.Client, make_slide: MakeSlide) -> None:
    with pytest.raises(Cancelled):
        upsample(make_slide(9, 9), method="gp", executor=DaskExecutor(client), should_stop=lambda: True)


def test_missing_scheduler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_srast.inference.executors.dask._WORKER_TIMEOUT", 1.0)
    with pytest.raises(SettingsError, match="No Dask scheduler"):
        DaskExecutor("tcp://127.0.0.1:9")


@pytest.fixture
def threads() -> Iterator[distributed.Client]:
    """Return a client of a worker in this process, whose device a test can make fail."""
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit=0
    )
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("largest", "notice"), [(8, "smaller parts"), (0, "on the CPU")])
def test_full_worker_device_halves_the_tile_then_uses_the_cpu(
    threads: distributed.Client, make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, largest: int, notice: str
) -> None:
    import torch

    from napari_srast.inference.methods.srast import PerGenePredictor

    slide = make_slide(9, 9)
    local = upsample(slide, factor=2)
    bind = PerGenePredictor.bind
    tried: set[int] = set()

    def bind_or_fail(self: PerGenePredictor, tile_input: Any, monitor: Any) -> object:
        n_spots = len(tile_input.tile.core_spots)
        # If no tile fits, the second attempt at a tile is on the CPU.
        full = n_spots > largest if largest else tile_input.tile.index not in tried
        tried.add(tile_input.tile.index)
        if full:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return bind(self, tile_input, monitor)

    monkeypatch.setattr(PerGenePredictor, "bind", bind_or_fail)
    result = upsample(slide, factor=2, executor=DaskExecutor(threads))
    assert any(notice in warning for warning in result.provenance["notices"])
    np.testing.assert_allclose(result.counts.toarray(), local.counts.toarray(), rtol=1e-4, atol=1e-5)


def test_worker_without_the_device_uses_its_cpu(
    threads: distributed.Client, make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide(6, 6)
    local = upsample(slide)
    prepare = dask_module._prepare

    def prepare_on_gpu(job: Any) -> Any:
        method = prepare(job)
        return replace(method, model=replace(method.model, device="cuda"))

    monkeypatch.setattr(dask_module, "_prepare", prepare_on_gpu)
    monkeypatch.setattr(dask_module, "_devices", lambda: ("cpu",))
    result = upsample(slide, executor=DaskExecutor(threads))
    assert same_bytes(result.counts, local.counts)
    assert any("no device 'cuda'" in warning for warning in result.provenance["notices"])
