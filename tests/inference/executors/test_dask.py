"""A cluster changes no byte of a result, nor does a worker that dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from napari_srast.api import upsample
from napari_srast.core.progress import Progress
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled, SettingsError
from napari_srast.inference import tiles

distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")

from napari_srast.inference.executors import dask as dask_module  # noqa: E402
from napari_srast.inference.executors.dask import DaskExecutor  # noqa: E402

MakeSlide = Callable[..., Slide]


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    """Two workers, each a process of its own, as on two computers."""
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
    )
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_MAX_PIXELS", 40)
    monkeypatch.setattr(tiles, "_MIN_SPOTS", 1)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("method", ["gp", "srast"])
def test_cluster_gives_the_bytes_of_the_local_run(
    client: distributed.Client, make_slide: MakeSlide, method: str
) -> None:
    slide = make_slide(9, 9, lattice="hex")
    seen: list[Progress] = []
    local = upsample(slide, method=method)
    spread = upsample(slide, method=method, executor=DaskExecutor(client), progress=seen.append)
    assert spread.counts.data.tobytes() == local.counts.data.tobytes()
    assert spread.counts.indices.tobytes() == local.counts.indices.tobytes()
    assert spread.counts.indptr.tobytes() == local.counts.indptr.tobytes()
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    assert max(p.total for p in seen) > 4


@pytest.mark.usefixtures("small_units")
def test_a_killed_worker_costs_a_retry(client: distributed.Client, make_slide: MakeSlide) -> None:
    slide = make_slide(12, 12)
    local = upsample(slide, method="pycnophylactic")
    killed = []

    def kill_one(step: Progress) -> None:
        if step.stage == "split" and step.done == 1 and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    spread = upsample(slide, method="pycnophylactic", executor=DaskExecutor(client), progress=kill_one)
    assert killed
    assert spread.counts.data.tobytes() == local.counts.data.tobytes()


def test_a_run_on_a_cluster_can_be_stopped(client: distributed.Client, make_slide: MakeSlide) -> None:
    with pytest.raises(Cancelled):
        upsample(make_slide(9, 9), method="gp", executor=DaskExecutor(client), should_stop=lambda: True)


def test_no_scheduler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_srast.inference.executors.dask._PATIENCE", 1.0)
    with pytest.raises(SettingsError, match="No Dask scheduler"):
        DaskExecutor("tcp://127.0.0.1:9")


@pytest.fixture
def threads() -> Iterator[distributed.Client]:
    """A worker in this process, where its device can be made to fail."""
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit=0
    )
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize(("largest", "notice"), [(8, "smaller parts"), (0, "on the CPU")])
def test_a_worker_whose_device_is_full_halves_its_units_then_leaves_the_device(
    threads: distributed.Client, make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch, largest: int, notice: str
) -> None:
    import torch

    from napari_srast.inference.methods.srast import PerGenePredictor

    slide = make_slide(9, 9)
    local = upsample(slide)
    opened = PerGenePredictor.open
    tried: set[int] = set()

    def open_or_fail(self: PerGenePredictor, packed: object, should_stop: object) -> object:
        own = len(packed.unit.own)  # type: ignore[attr-defined]
        # Where nothing fits, the second try with one unit is the one on the CPU.
        full = own > largest if largest else packed.unit.index not in tried  # type: ignore[attr-defined]
        tried.add(packed.unit.index)  # type: ignore[attr-defined]
        if full:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return opened(self, packed, should_stop)  # type: ignore[arg-type]

    monkeypatch.setattr(PerGenePredictor, "open", open_or_fail)
    result = upsample(slide, executor=DaskExecutor(threads))
    assert any(notice in told for told in result.provenance["notices"])
    np.testing.assert_allclose(result.counts.toarray(), local.counts.toarray(), rtol=1e-4, atol=1e-5)


def test_a_worker_without_the_device_of_the_run_computes_on_its_cpu(
    threads: distributed.Client, make_slide: MakeSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = make_slide(6, 6)
    local = upsample(slide)
    prepare = dask_module._prepare

    def prepared_on_a_gpu(job: object) -> object:
        method = prepare(job)  # type: ignore[arg-type]
        method.record["device"] = "cuda"
        return method

    monkeypatch.setattr(dask_module, "_prepare", prepared_on_a_gpu)
    monkeypatch.setattr(dask_module, "_devices", lambda: ("cpu",))
    result = upsample(slide, executor=DaskExecutor(threads))
    assert result.counts.data.tobytes() == local.counts.data.tobytes()
    assert any("no device 'cuda'" in told for told in result.provenance["notices"])
