"""Measure how fast this computer is, relative to the one on which the cost of a run was measured."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

__all__ = ["machine_speed", "n_cores"]

_REFERENCE_SECONDS = 0.0021  # of the workload on the reference computer
_SIZE = 96  # rows and columns of the products
_N_PRODUCTS = 8
_N_VALUES = 150_000
_ROUNDS = 3
_MAX_THREADS = 4
_LIMITS = (0.1, 10.0)
_CLOCK = time.perf_counter if os.name == "nt" else time.thread_time  # Windows counts processor time in steps of 16 ms


@cache
def machine_speed() -> float:
    """Return the speed of one core relative to that of the reference computer, while all cores are busy.

    A workload like that of a run, dense products, logarithms and look-ups, takes some 10 ms of processor time on each
    core, once in a process. All cores work at the same time, because two of them may share a unit. Processor time
    hardly depends on what else the computer does; on Windows, where it is too coarse, the best of a few rounds counts.
    """
    threads = min(n_cores(), _MAX_THREADS)
    with ThreadPoolExecutor(threads, thread_name_prefix="napari-srast-speed") as pool:
        seconds = list(pool.map(_time_workload, range(threads)))
    return float(np.clip(_REFERENCE_SECONDS / max(float(np.mean(seconds)), 1e-9), *_LIMITS))


def _time_workload(seed: int) -> float:
    """Return the time of this thread for the workload, in seconds: the best of a few rounds."""
    generator = np.random.default_rng(seed)
    matrix = generator.random((_SIZE, _SIZE), dtype=np.float32)
    values, index = generator.random(_N_VALUES), generator.integers(0, _N_VALUES, _N_VALUES)
    product, results, taken = np.empty_like(matrix), np.empty_like(values), np.empty_like(values)
    seconds = []
    for _ in range(_ROUNDS):
        start = _CLOCK()
        for _ in range(_N_PRODUCTS):
            np.einsum("ij,kj->ik", matrix, matrix, out=product)  # not BLAS, which may use all cores
        np.log1p(np.exp(values, out=results), out=results)
        np.take(results, index, out=taken, mode="clip").cumsum(out=results)
        seconds.append(_CLOCK() - start)
    return min(seconds)


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
