"""Return memory to the system, and find out how much a run can have."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["available_memory", "release_free_memory"]

_CGROUPS = (  # limit, usage, and which entry of the statistics counts the files in memory that can be dropped
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
_CGROUP_FOLDER = Path("/sys/fs/cgroup")


def release_free_memory() -> None:
    """Return memory that was freed to the system.

    The allocator of Linux keeps freed blocks of up to 32 MB, some for each thread; the peak of a long run that creates
    arrays of all sizes in many threads would grow from tile to tile. Elsewhere this does nothing.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None


def available_memory() -> int:
    """Return the bytes that this process can still have without swapping, within the limit of its container."""
    import psutil

    return min([int(psutil.virtual_memory().available), *_container_memory()])


def _container_memory(folder: Path = _CGROUP_FOLDER) -> list[int]:
    for limit, usage, statistics, name in _CGROUPS:
        try:
            files = dict(line.split() for line in (folder / statistics).read_text().splitlines())
            used = int((folder / usage).read_text()) - int(files.get(name, 0))
            return [max(int((folder / limit).read_text()) - used, 0)]
        except (OSError, ValueError):  # no container, or the limit "max"
            continue
    return []
