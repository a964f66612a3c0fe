"""Fixtures shared by all tests: the real slides where they are at hand, and small synthetic ones made in memory."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from scipy import sparse

from napari_srast.core.slide import Slide


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests are spread over processes, keep those of a file together, and all of the window in one process.

    Windows of several processes would take the keyboard's focus from each other on one screen.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        file = item.path.relative_to(config.rootpath).as_posix()
        window = item.get_closest_marker("gui") or file.startswith("tests/gui/")
        item.add_marker(pytest.mark.xdist_group("window" if window else file))


_NO_DEVICE = ("geometry", "interpolation", "io", "test_bootstrap", "test_docs", "test_drivers", "test_imports")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Where there is a GPU, run each test of what computes twice: by default on the GPU, then by default on the CPU."""
    part = metafunc.definition.path.relative_to(Path(__file__).parent).parts[0].removesuffix(".py")
    if part in _NO_DEVICE or "device" in metafunc.fixturenames:  # it names each device itself
        return
    from napari_srast._utils import devices

    present = devices.available_devices()
    if len(present) > 1:
        metafunc.parametrize("default_device", present, indirect=True)


@pytest.fixture(autouse=True)
def default_device(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Let the device ``auto`` be the one that the test is run for; None where there is but the CPU."""
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
    """Give every test the same global random state, so that code that forgets to seed still repeats."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the legacy global state is what a forgetful callee would use


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data: ``NAPARI_SRAST_DATA``, else ``shared/data`` beside the repository; skips without it."""
    named = os.environ.get("NAPARI_SRAST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "slides").is_dir():
        pytest.skip(f"no real slides in {folder}; set NAPARI_SRAST_DATA to the folder that holds slides/")
    return folder


@pytest.fixture(scope="session")
def slide_path(data_dir: Path) -> Callable[[str], Path]:
    """Find a real slide by name: ``slide_path("st_human_melanoma")``; skips where that slide is missing."""

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
    """Build small synthetic slides; see :func:`_make_slide` for the options."""
    return _make_slide


@pytest.fixture
def make_store() -> Callable[..., Any]:
    """Put a slide into SpatialData: spots as circles, squares or labels, with the slide's own transformations."""
    import anndata
    import geopandas
    import pandas as pd
    import shapely
    import spatialdata
    from spatialdata.models import Labels2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Affine

    def make(slide: Slide, kind: str = "circles", *, x: Any = None, table: str = "table", **parts: Any) -> Any:
        systems = {
            name: Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))
            for name, matrix in slide.transforms.items()
        }
        ids = np.arange(slide.n_spots) + 10
        diameter = slide.spot_diameter or 1.0
        shapes, labels = {}, {}
        if kind == "circles":
            shapes["spots"] = ShapesModel.parse(
                slide.centers, geometry=0, radius=diameter / 2, index=pd.Index(ids), transformations=systems
            )
        elif kind == "squares":
            boxes = shapely.box(*(slide.centers - diameter / 2).T, *(slide.centers + diameter / 2).T)
            shapes["spots"] = ShapesModel.parse(
                geopandas.GeoDataFrame(geometry=boxes, index=pd.Index(ids)), transformations=systems
            )
        else:
            rows, cols = (int(m) for m in np.ptp(slide.centers, axis=0)[::-1] + diameter)
            image = np.zeros((rows, cols), dtype=np.int32)
            for spot, (cx, cy) in zip(ids, slide.centers, strict=True):
                half = diameter / 2
                image[round(cy - half) : round(cy + half), round(cx - half) : round(cx + half)] = spot
            labels["spots"] = Labels2DModel.parse(image, dims=("y", "x"), transformations=systems, chunks=(32, 32))
        obs = pd.DataFrame({"region": pd.Categorical(["spots"] * len(ids)), "instance_id": ids}, index=slide.spot_ids)
        var = pd.DataFrame(index=parts.pop("genes", slide.genes))
        data = anndata.AnnData(slide.counts if x is None else x, obs=obs, var=var, layers=parts.pop("layers", None))
        parsed = TableModel.parse(data, region="spots", region_key="region", instance_key="instance_id")
        return spatialdata.SpatialData(
            images=parts.pop("images", {}), shapes=shapes, labels=labels, tables={table: parsed}, **parts
        )

    return make


def _make_slide(
    rows: int = 8,
    cols: int = 8,
    n_genes: int = 5,
    *,
    lattice: Literal["square", "hex"] = "square",
    pitch: float = 100.0,
    depth: float = 20.0,
    seed: int = 0,
    counts: Any = None,
    **fields: Any,
) -> Slide:
    """Build a slide of ``rows`` x ``cols`` spots.

    The first gene grows from left to right, the second peaks in the middle, the third is zero everywhere, the others
    are smooth waves; all are Poisson around ``depth`` counts. ``counts`` (N, G) replaces them; ``fields`` go to
    ``Slide``.
    """
    row, col = (a.ravel() for a in np.mgrid[:rows, :cols])
    if lattice == "hex":
        centers = np.column_stack([(col + 0.5 * (row % 2)) * pitch, row * pitch * np.sqrt(3) / 2])
    else:
        centers = np.column_stack([col, row]) * float(pitch)
    if counts is None:
        rng = np.random.default_rng(seed)
        unit = (centers - centers.min(axis=0)) / max(float(np.ptp(centers)), 1.0)
        x, y = unit.T
        patterns = [0.2 + x, np.exp(-8 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)), np.zeros_like(x)]
        patterns += [1 + np.sin(2 * np.pi * ((k - 2) * x + y)) for k in range(3, n_genes)]
        counts = rng.poisson(depth * np.column_stack(patterns[:n_genes]))
    matrix = sparse.csr_matrix(counts, dtype=np.float32)
    fields.setdefault("spot_diameter", 0.55 * pitch if lattice == "hex" else pitch)
    fields.setdefault("spot_shape", "circle" if lattice == "hex" else "square")
    fields.setdefault("unit", "um")
    return Slide(
        counts=matrix,
        genes=np.array([f"Gene{i}" for i in range(matrix.shape[1])], dtype=object),
        spot_ids=np.array([f"spot{i}" for i in range(len(centers))], dtype=object),
        centers=centers,
        **fields,
    )


@pytest.fixture
def filling_disk() -> Callable[[], AbstractContextManager[None]]:
    """Give what lets no file grow beyond 1,000 bytes for a while, as on a disk that fills up amid a write."""
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
