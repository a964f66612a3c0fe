"""Tests of thread limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from threadpoolctl import threadpool_info

from napari_srast._utils import threads as threads_module
from napari_srast._utils.threads import (
    limit_torch_if_loaded,
    map_on_cores,
    single_threaded,
    single_threaded_blas,
    single_threaded_torch,
)


@pytest.fixture(autouse=True)
def two_torch_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_torch_limit_is_restored() -> None:
    with single_threaded_torch():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_full_limit_restores_torch_after_an_error() -> None:
    def fail() -> None:
        with single_threaded():
            assert torch.get_num_threads() == 1
            assert blas_threads() <= {1}
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert torch.get_num_threads() == 2


def test_concurrent_blas_limits_end_with_the_last() -> None:
    before = blas_threads()
    first, second = single_threaded_blas(), single_threaded_blas()
    with first:
        second.__enter__()
    assert blas_threads() <= {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before


def test_initializer_limits_the_thread_of_a_pool() -> None:
    with ThreadPoolExecutor(1, initializer=limit_torch_if_loaded) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1


def test_blocks_are_mapped_in_order_on_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "n_cores", lambda: 3)
    together = threading.Barrier(3, timeout=10)

    def double(block: int) -> int:
        if block < 3:
            together.wait()  # passes only if three blocks are computed at the same time
        return 2 * block

    assert map_on_cores(double, range(9)) == [2 * block for block in range(9)]
    monkeypatch.setattr(threads_module, "n_cores", lambda: 1)
    names = map_on_cores(lambda _: threading.current_thread().name, range(2))
    assert names == [threading.current_thread().name] * 2


def test_error_in_a_block_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "n_cores", lambda: 2)
    started = []

    def fail(block: int) -> None:
        started.append(block)
        time.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        map_on_cores(fail, range(200))
    assert len(started) < 100
