"""Import what a run needs once a slide is shown, so that slides show sooner and the window never waits for it.

An import delays the window in two ways. Python's collector of garbage visits all new objects again and again, and
PyTorch's library is linked while the thread holds Python's lock; each takes a fifth of a second at a time. So nothing
is collected meanwhile, and the library is linked first, without the lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from napari_srast._utils.triton_guard import block_triton_import
from napari_srast.gui.runtime.gc_pause import freeze_new_objects
from napari_srast.gui.runtime.priority import ShortSwitchInterval, lower_thread_priority

__all__ = ["import_run_modules", "start_import"]

_MODULES = (
    "napari_srast.models.sasa.embedding",
    "napari_srast.checkpoints.storage",
    "napari_srast.inference.methods.srast",
)
_LIBRARIES = ("libc10", "libtorch_cpu", "libtorch", "libtorch_python")  # each after those that it needs
_SUFFIX = {"linux": ".so", "darwin": ".dylib"}.get(sys.platform)

logger = logging.getLogger(__name__)
_lock = threading.Lock()


def start_import() -> None:
    """Import the modules in a thread of its own, unless they are imported; a run waits for it."""
    if not _missing():
        return

    def work() -> None:
        lower_thread_priority()
        try:
            with ShortSwitchInterval():
                import_run_modules()
        except Exception:  # a run imports them again and shows the error
            logger.debug("the modules of a run cannot be imported yet", exc_info=True)

    threading.Thread(target=work, name="srast-imports", daemon=True).start()


def import_run_modules() -> None:
    """Import the modules; a second thread waits, because two threads that import the same packages can collide."""
    with _lock:
        if not _missing():
            return
        block_triton_import()
        with _no_collections():
            _link_libraries()
            for name in _MODULES:
                importlib.import_module(name)
        freeze_new_objects()


def _missing() -> bool:
    return any(name not in sys.modules for name in _MODULES)


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Collect no garbage meanwhile."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _link_libraries() -> None:
    """Link PyTorch's libraries without Python's lock, which ctypes releases during calls; its import finds them."""
    spec = importlib.util.find_spec("torch") if "torch" not in sys.modules else None
    if spec is None or not spec.submodule_search_locations or _SUFFIX is None:
        return
    folder = Path(spec.submodule_search_locations[0]) / "lib"
    link = ctypes.CDLL(None).dlopen
    link.restype, link.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    for name in _LIBRARIES:  # one that is missing or cannot be linked is left to the import
        link(os.fsencode(folder / f"{name}{_SUFFIX}"), os.RTLD_NOW | os.RTLD_LOCAL)
