"""Return memory to the system, and find out how much a run can have."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["available_memory", "obtainable_memory", "release_free_memory", "separate_large_blocks"]

_MMAP_THRESHOLD = -3  # number of this parameter of mallopt
_SEPARATE_BYTES = 4 << 20  # from which on a block is apart from the others

_CGROUPS = (  # limit, usage, and which entries of the statistics count the files and caches that can be dropped
    ("memory.max", "memory.current", "memory.stat", ("inactive_file", "active_file", "slab_reclaimable")),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        ("total_inactive_file", "total_active_file"),
    ),
)
_CGROUP_FOLDER = Path("/sys/fs/cgroup")


def release_free_memory() -> None:
    """Return memory that was freed to the system.

    The allocator of Linux keeps freed blocks of up to 32 MB, some for each thread; the peak of a long run that creates
    arrays of all sizes in many threads would grow from tile to tile. Elsewhere this does nothing.
    """
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def separate_large_blocks() -> None:
    """Make the allocator of Linux return blocks above 4 MB to the system when they are freed.

    It raises this limit to 32 MB by itself; the arrays of a run then leave holes between smaller blocks. Elsewhere, and
    where the environment sets the limit, this does nothing.
    """
    set_option = getattr(_c_library(), "mallopt", None)
    if set_option is not None and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        set_option(_MMAP_THRESHOLD, _SEPARATE_BYTES)


@cache
def _c_library() -> Any:
    """Return the GNU C library, None on systems without."""
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None


def available_memory() -> int:
    """Return the bytes that this process can still have without swapping, within the limit of its container."""
    import psutil

    return min([int(psutil.virtual_memory().available), *_container_memory()])


def obtainable_memory() -> int:
    """Return the bytes that this process can have if other memory is swapped, within the limit of its container.

    Linux swaps to the space that was set up. macOS and Windows compress the memory of other programs and write it to
    files that grow, so that what they report as available says little about what a run can have.
    """
    import psutil

    memory = psutil.virtual_memory()
    system = memory.available + psutil.swap_memory().free if psutil.LINUX else memory.total
    return min([int(system), *_container_memory()])


def _container_memory(folder: Path = _CGROUP_FOLDER) -> list[int]:
    for limit, usage, statistics, droppable in _CGROUPS:
        try:
            entries = dict(line.split() for line in (folder / statistics).read_text().splitlines())
            used = int((folder / usage).read_text()) - sum(int(entries.get(name, 0)) for name in droppable)
            return [max(int((folder / limit).read_text()) - used, 0)]
        except (OSError, ValueError):  # no container, or the limit "max"
            continue
    return []
