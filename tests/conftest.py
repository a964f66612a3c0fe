"""Fixtures for all tests: real slides if they are available, and small synthetic slides."""

from __future__ import annotations

import functools
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import slides

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide


def process_group(test_id: str) -> str:
    """Return the group of a test; one process runs all tests of a group: those of a file, or all that open windows.

    Windows of several processes on one screen would take the keyboard focus from each other.
    """
    file = test_id.split("::")[0]
    return "window" if _opens_windows(file) else file


@functools.cache
def _opens_windows(file: str) -> bool:
    path = Path(__file__).resolve().parents[1] / file
    return file.startswith("tests/gui/") or "pytest.mark.gui" in path.read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute groups of tests; marks with ``xdist_group`` have no effect with pytest 9.2 and xdist 3.8."""
    from xdist.scheduler import LoadScopeScheduling

    if config.getvalue("dist") != "loadgroup":
        return None

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return process_group(nodeid)

    return GroupScheduling(config, log)


_NO_DEVICE = ("geometry", "interpolation", "io", "test_bootstrap", "test_docs", "test_imports", "test_language")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """On a machine with a GPU, run each compute test twice, with the GPU and the CPU as default device."""
    part = metafunc.definition.path.relative_to(Path(__file__).parent).parts[0].removesuffix(".py")
    if part in _NO_DEVICE or "device" in metafunc.fixturenames:  # these tests choose their devices
        return
    from napari_srast._utils import devices

    present = devices.available_devices()
    if len(present) > 1:
        metafunc.parametrize("default_device", present, indirect=True)


@pytest.fixture(autouse=True)
def default_device(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Set the device that ``auto`` selects; None on a machine with only a CPU."""
    device: str | None = getattr(request, "param", None)
    if device is None:
        yield None
        return
    from napari_srast._utils import devices

    others = [other for other in devices.available_devices() if other != device]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "available_devices", lambda: (device, *others))
        yield device


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Seed the global random state, so that unseeded code is repeatable in tests."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - unseeded code uses the legacy global state


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data: ``NAPARI_SRAST_DATA``, else ``shared/data`` next to the repository; skipped if missing."""
    named = os.environ.get("NAPARI_SRAST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "slides").is_dir():
        pytest.skip(f"no real slides in {folder}; set NAPARI_SRAST_DATA to the folder that holds slides/")
    return folder


@pytest.fixture(scope="session")
def slide_path(data_dir: Path) -> Callable[[str], Path]:
    """Find a real slide by name: ``slide_path("st_human_melanoma")``; skip if the slide is missing."""

    def find(name: str, suffix: str = ".h5ad") -> Path:
        path = data_dir / "slides" / f"{name}{suffix}"
        if not path.exists():
            pytest.skip(f"the real slide {path.name} is missing from {path.parent}")
        return path

    return find


@pytest.fixture(scope="session")
def slide_paths(data_dir: Path) -> list[Path]:
    """Every real low-resolution slide."""
    return sorted((data_dir / "slides").glob("*.h5ad"))


@pytest.fixture(scope="session")
def make_slide() -> Callable[..., Slide]:
    """Build small synthetic slides: :func:`helpers.slides.make_slide`."""
    return slides.make_slide


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Any]:
    """Convert a slide to a SpatialData object: :func:`helpers.slides.make_store`."""
    return slides.make_store


@pytest.fixture(scope="session")
def make_result() -> Callable[..., UpsampleResult]:
    """Upsample a slide in an instant: :func:`helpers.results.make_result`."""
    from helpers import results  # it loads the engine

    return results.make_result


@pytest.fixture
def filling_disk() -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which no file can grow beyond 1,000 bytes, like on a full disk."""
    resource = pytest.importorskip("resource", reason="needs the limits of POSIX")

    @contextmanager
    def limited() -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        signalled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, signalled)

    return limited
