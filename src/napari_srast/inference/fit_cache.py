"""Keep what is fitted to a slide: the last fits in memory, and if asked, on the disk.

The disk cache is used only where a caller passes one. Its files hold numbers alone: no names of genes, spots, images or
files. A file is found by a hash of everything that the fit depends on, including the code of this package, the
numerical libraries and the kind of processor, so that a run gives the same bytes with and without the cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

from napari_srast._utils.packing import UnpackError, contiguous, pack, unpack
from napari_srast.core.progress import NO_MONITOR, RunMonitor

__all__ = ["MAX_CACHE_BYTES", "CacheUse", "FitCache", "FitMemory", "code_fingerprint", "digest_of"]

MAX_CACHE_BYTES = 2_000_000_000
"""Size to which the disk cache grows; the files that were not used for longest are removed first."""
_POLL_SECONDS = 0.05
_STALE_SECONDS = 3600.0  # age from which on an unfinished file is from a process that has ended
_FILE_NAME = re.compile(r"(?P<slide>[0-9a-f]{16})-[0-9a-f]{32}\.npz")
_LIBRARIES = ("numpy", "scipy", "torch", "torch-geometric", "scikit-learn", "scikit-image")
T = TypeVar("T")
logger = logging.getLogger(__name__)


def digest_of(*parts: Any) -> str:
    """Return a hash of arrays, by their bytes, and of plain values, as 32 hexadecimal digits."""
    import numpy as np

    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(repr((part.dtype.str, part.shape)).encode())
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()


@functools.cache
def code_fingerprint() -> str:
    """Return a hash of what turns the same input into the same bytes: code, libraries and kind of processor."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(package.rglob("*.py")):
        folder = file.relative_to(package).parts[0]
        if folder not in ("gui", "cli", "docs"):
            digest.update(repr(file.relative_to(package).parts).encode())
            digest.update(file.read_bytes())
    for name in (*_LIBRARIES, "napari-srast"):
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{name} {version(name)}".encode())
    import torch

    digest.update(repr((platform.machine(), platform.system(), torch.backends.cpu.get_cpu_capability())).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class CacheUse:
    """Size of a disk cache.

    Parameters
    ----------
    folder
        Its folder.
    n_slides
        Number of slides with a file in it.
    n_bytes
        Bytes that the files take.
    max_bytes
        Bytes that they may take.
    """

    folder: Path
    n_slides: int
    n_bytes: int
    max_bytes: int


class FitCache:
    """Files with what was fitted to slides.

    A file that cannot be written is left out, and a damaged one is removed: neither ends a run.

    Parameters
    ----------
    folder
        Folder of the files. Default: one in the user's cache.
    max_bytes
        Bytes that the files may take.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_CACHE_BYTES) -> None:
        if folder is None:
            import platformdirs

            folder = Path(platformdirs.user_cache_path("napari-srast")) / "prepared_slides"
        self.folder = folder
        self.max_bytes = max_bytes

    def load(self, name: str, classes: tuple[type, ...]) -> Any:
        """Return the content of a file; None if there is none that can be used.

        Parameters
        ----------
        name
            Name of the file; see :meth:`file_name`.
        classes
            Dataclasses that the content may consist of.
        """
        path = self.folder / name
        try:
            with path.open("rb") as file:
                content = unpack(file, os.fstat(file.fileno()).st_size, classes)
            os.utime(path)  # used now; systems do not record reading reliably
            return content
        except UnpackError as error:
            logger.debug("A damaged file of the cache is removed (%s).", error)
            _remove(path)
        except (OSError, MemoryError):
            pass
        return None

    def save(self, name: str, value: Any) -> None:
        """Write a file, and remove the files that were not used for longest if there are too many bytes."""
        partial = self.folder / f".{name}.{secrets.token_hex(4)}.partial"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with partial.open("wb") as file:
                pack(value, file)
            os.replace(partial, self.folder / name)
        except (OSError, MemoryError) as error:  # a full or read-only disk
            logger.debug("Nothing was written to the cache (%s).", type(error).__name__)
        finally:
            _remove(partial)
        self._trim()

    @staticmethod
    def file_name(slide: str, *others: str) -> str:
        """Return the name of a file from the hash of a slide's spots, and hashes of all else a fit depends on."""
        return f"{slide[:16]}-{digest_of(slide, *others, code_fingerprint())}.npz"

    def use(self) -> CacheUse:
        """Return the size of the cache."""
        files = self._files()
        slides = {match["slide"] for _, _, path in files if (match := _FILE_NAME.fullmatch(path.name))}
        return CacheUse(self.folder, len(slides), sum(size for _, size, _ in files), self.max_bytes)

    def clear(self) -> None:
        """Remove all files of the cache, and nothing else."""
        for _, _, path in self._files():
            _remove(path)
        self._remove_stale(0.0)
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # unless something else is in it

    def _trim(self) -> None:
        files = self._files()
        excess = sum(size for _, size, _ in files) - self.max_bytes
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            _remove(path)
            excess -= size
        self._remove_stale(_STALE_SECONDS)

    def _files(self) -> list[tuple[float, int, Path]]:
        """Return time of the last use, size and path of each file."""
        files = []
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if _FILE_NAME.fullmatch(path.name):
                    with contextlib.suppress(OSError):  # another process has removed it
                        status = path.stat()
                        files.append((status.st_mtime, status.st_size, path))
        return files

    def _remove_stale(self, seconds: float) -> None:
        """Remove what killed processes have left."""
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                is_ours = path.name.startswith(".") and path.name.endswith(".partial")
                with contextlib.suppress(OSError):
                    if is_ours and time.time() - path.stat().st_mtime >= seconds:
                        path.unlink()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


class FitMemory(Generic[T]):
    """The last fits of one kind; threads that ask for a fit in progress wait for it.

    Parameters
    ----------
    classes
        Dataclasses that the stored part of a fit consists of.
    max_fits
        Number of fits in memory.
    """

    def __init__(self, classes: tuple[type, ...], max_fits: int) -> None:
        self._classes = classes
        self._max_fits = max_fits
        self._lock = threading.Lock()
        self._fits: OrderedDict[str, T] = OrderedDict()
        self._in_progress: dict[str, threading.Event] = {}

    def clear(self) -> None:
        """Forget all fits."""
        with self._lock:
            self._fits.clear()

    def get(
        self,
        key: str,
        fit: Callable[[], Any],
        assemble: Callable[[Any], T],
        *,
        file_key: Callable[[], tuple[str, ...]],
        cache: FitCache | None = None,
        monitor: RunMonitor = NO_MONITOR,
    ) -> T:
        """Return a fit from memory, or assemble it from what is on the disk, or compute it.

        Parameters
        ----------
        key
            Hash of everything that fits in this memory differ by.
        fit
            Computes what is stored: nested dataclasses of arrays.
        assemble
            Completes it with what is computed in an instant.
        file_key
            Returns the hash of the slide's spots and hashes of all else that the fit depends on; called only if there
            is a disk cache.
        cache
            Disk cache; None: memory only.
        monitor
            Asked for cancellation while another thread computes the same fit.
        """
        while True:
            with self._lock:
                if key in self._fits:
                    self._fits.move_to_end(key)
                    return self._fits[key]
                other = self._in_progress.get(key)
                if other is None:
                    done = self._in_progress[key] = threading.Event()
                    break
            while not other.wait(_POLL_SECONDS):
                monitor.check_canceled()
        try:
            value = assemble(self._load_or_fit(fit, file_key, cache))
            with self._lock:
                self._fits[key] = value
                while len(self._fits) > self._max_fits:
                    self._fits.popitem(last=False)
            return value
        finally:
            with self._lock:
                del self._in_progress[key]
            done.set()

    def _load_or_fit(
        self, fit: Callable[[], Any], file_key: Callable[[], tuple[str, ...]], cache: FitCache | None
    ) -> Any:
        name = "" if cache is None else cache.file_name(*file_key())
        stored = None if cache is None else cache.load(name, self._classes)
        if stored is not None:
            return stored
        # Arrays get the order in memory that a file has, because the last bits of later sums depend on it.
        value = contiguous(fit(), self._classes)
        if cache is not None:
            cache.save(name, value)
        return value
