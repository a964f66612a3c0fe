"""System errors while a result is written: one clear message, nothing lost, no partial output."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs the limits and users of POSIX")

# Start of every child process: a slide in memory and its result, 40,000 pixels, about 1 MB in each format.
_PREPARE = """
import os, resource, signal, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import numpy as np
from scipy import sparse
from napari_srast.errors import SrastError
from napari_srast.io.result_elements import to_anndata
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide
from napari_srast.api import upsample
from napari_srast.core.slide import Slide
import anndata, filelock, geopandas, h5py, spatialdata, zarr  # import before the process drops its permissions
import pandas.io.formats.csvs  # pandas imports this lazily, from a folder that the user may not read

side = 25
centers = np.column_stack([np.arange(side**2) % side, np.arange(side**2) // side]) * 100.0
counts = sparse.csr_matrix(np.random.default_rng(0).poisson(50, (side**2, 20)).astype(np.float32))
names = np.array([f"G{i}" for i in range(20)], dtype=object)
slide = Slide(counts=counts, genes=names, spot_ids=np.arange(side**2).astype(str).astype(object), centers=centers)
result = upsample(slide, method="gp", factor=8)
folder = Path(sys.argv[1])

def attempt(name, **options):
    try:
        write_result(result, folder / name, **options)
        print("written", flush=True)
    except SrastError as error:
        print(error, flush=True)
"""


def child(code: str, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _PREPARE + code, str(folder)], capture_output=True, text=True, check=False, **options
    )


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Write every format with a file size limit of 200 kB, which acts like a full disk."""
    folder = tmp_path_factory.mktemp("full")
    code = """
import dataclasses
from napari_srast.io.store import write_store
from spatialdata.models import ShapesModel
store = spatialdata.SpatialData(shapes={"spots": ShapesModel.parse(centers, geometry=0, radius=50.0)})
write_store(store, folder / "slide.zarr")
before = {p: p.read_bytes() for p in (folder / "slide.zarr").rglob("*") if p.is_file()}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for name in ("o.zarr", "o.h5ad", "o.csv", "o.csv.gz"):
    attempt(name)
attempt("slide.zarr", into_slide=True)
from napari_srast.api import upsample_to_store
try:
    upsample_to_store(slide, folder / "stream.zarr", method="gp", factor=8)
except SrastError as error:
    print(error, flush=True)
assert before == {p: p.read_bytes() for p in (folder / "slide.zarr").rglob("*") if p.is_file()}
"""
    return folder, child(code, folder)


@pytest.mark.contract(
    section="Outputs and system errors",
    case="disk full while writing, each format",
    response="cannot be written (…); nothing was left behind",
)
def test_disk_full_during_writing_is_one_sentence_per_format(
    full_disk: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = full_disk
    assert done.returncode == 0, done.stderr  # HDF5 would crash here
    sentences = done.stdout.splitlines()
    assert len(sentences) == 6
    for sentence in sentences:
        assert "cannot be written" in sentence
        assert "nothing was left behind" in sentence
    assert os.listdir(folder) == ["slide.zarr"]
    assert "Traceback" not in done.stderr


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that another user can enter, unlike the folders of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.contract(
    section="Outputs and system errors",
    case="rights lost while writing",
    response="cannot be written (Permission denied); remove the unfinished '…'",
)
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_missing_permission_is_one_sentence_and_leaves_nothing(outside: Path) -> None:
    """The permission is lost after the run, when the first file is written."""
    code = """
from napari_srast.io import atomic
os.setgid(65534); os.setuid(65534)
closed = folder / "closed"
attempt("hidden/in/o.csv")         # not readable
attempt("closed/o.csv")            # never writable
open_folder = folder / "open"
original = atomic.os.replace
def lose(*arguments):
    open_folder.chmod(0o500)
    return original(*arguments)
atomic.os.replace = lose
attempt("open/o.csv")              # not writable when the result is renamed
atomic.os.replace = original
open_folder.chmod(0o700)
attempt("open/o.csv")
"""
    (outside / "hidden" / "in").mkdir(parents=True)
    (outside / "hidden").chmod(0o700)
    (outside / "closed").mkdir(mode=0o555)
    (outside / "open").mkdir()
    os.chown(outside / "open", 65534, 65534)
    done = child(code, outside, env={**os.environ, "HOME": str(outside / "open")})
    assert done.returncode == 0, done.stderr
    hidden, never, lost, again = done.stdout.splitlines()
    assert "you may not enter it" in hidden
    assert "Permission denied" in never
    assert "nothing was left behind" in never
    assert "Permission denied" in lost
    assert "remove the unfinished" in lost  # the sentence names the file that could not be removed
    assert again == "written"
    left = sorted(path.name for path in (outside / "open").iterdir() if not path.is_dir())
    assert left == ["o.csv"]  # the next writer removed the partial file
    assert list((outside / "closed").iterdir()) == []


@pytest.mark.contract(
    section="Outputs and system errors",
    case="two processes export into one store",
    response="both arrive, or one is refused to wait",
)
def test_concurrent_exports_into_one_store_lose_nothing(tmp_path: Path) -> None:
    make = """
from napari_srast.io.store import write_store
from spatialdata.models import ShapesModel
store = spatialdata.SpatialData(shapes={"spots": ShapesModel.parse(centers, geometry=0, radius=50.0)})
write_store(store, folder / "slide.zarr")
"""
    assert child(make, tmp_path).returncode == 0
    export = """
import dataclasses
for i in range(3):
    result = dataclasses.replace(result, run=f"{os.getpid()}_{i}")
    attempt("slide.zarr", into_slide=True)
"""
    words = [sys.executable, "-c", _PREPARE + export, str(tmp_path)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    messages = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    lines = [line for output, _ in messages for line in output.splitlines()]
    written = lines.count("written")
    assert all(line == "written" or "being written by another process" in line for line in lines), lines
    assert written >= 3

    import spatialdata

    from napari_srast.io.result_reader import list_runs

    store = spatialdata.read_zarr(tmp_path / "slide.zarr")
    assert len(list_runs(tmp_path / "slide.zarr")) == written
    assert len(store.tables) == len(store.labels) == written
    assert len(store.shapes) == written + 1
    assert os.listdir(tmp_path) == ["slide.zarr"]


@pytest.fixture
def slide(outside: Path, make_slide: Any, make_store: Any) -> Path:
    """A slide on disk whose result takes a while to write."""
    from napari_srast.io.store import write_store

    write_store(make_store(make_slide(25, 25, 20)), outside / "slide.zarr")
    return outside / "slide.zarr"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def on_the_command_line(slide: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "napari_srast", "upsample", str(slide), "--method", "uniform", *words]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_missing_permission_is_one_sentence_on_the_command_line(slide: Path, outside: Path) -> None:
    code = """
from napari_srast.cli import main
closed, opened = folder / "closed", folder / "open"
words = ["upsample", str(folder / "slide.zarr"), "--method", "uniform", "-o"]
assert main([*words, str(opened / "first.csv")]) == 0  # imports everything while it is readable
os.setgid(65534); os.setuid(65534)
print(main([*words, str(closed / "o.csv")]), main([*words, str(folder / "hidden" / "o.csv")]))
words[1] = str(folder / "unreadable.zarr")
print(main([*words, str(opened / "o.csv")]))
"""
    before = content(slide)
    shutil.copytree(slide, outside / "unreadable.zarr")
    (outside / "unreadable.zarr" / "zarr.json").chmod(0)
    (outside / "hidden").mkdir(mode=0o700)
    (outside / "closed").mkdir(mode=0o555)
    (outside / "open").mkdir()
    os.chown(outside / "open", 65534, 65534)
    done = child(code, outside, env={**os.environ, "HOME": str(outside / "open")})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["2 2", "2"]
    messages = [line for line in done.stderr.splitlines() if line.startswith("napari-srast: ")]
    assert len(messages) == 3, done.stderr
    assert "cannot be written to; choose another one" in messages[0]
    assert "hidden" in messages[1]
    assert "Permission denied" in messages[2]
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (outside / "open").iterdir() if not path.is_dir()) == ["first.csv"]
    assert list((outside / "closed").iterdir()) == []
    assert content(slide) == before


@pytest.mark.slow
@pytest.mark.parametrize("wait", [0.0, 0.1])
def test_killed_command_does_not_block_the_next(wait: float, slide: Path, outside: Path) -> None:
    before = content(slide)
    words = on_the_command_line(slide, "-o", str(outside / "o.zarr"), "--factor", "8")
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None and not list(outside.glob(".o.zarr.*.partial*")):
        time.sleep(0.01)
    time.sleep(wait)
    run.kill()
    if run.wait(60) == 0:
        pytest.skip("the command was done before it was killed")
    assert run.returncode == -9
    assert not (outside / "o.zarr").exists()
    assert content(slide) == before
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(outside)) == ["o.zarr", "slide.zarr"]
    assert content(slide) == before


@pytest.mark.slow
def test_second_command_writing_the_same_file_is_refused(slide: Path, outside: Path) -> None:
    words = on_the_command_line(slide, "-o", str(outside / "o.zarr"), "--factor", "8")
    both = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    messages = [process.communicate(timeout=300)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], messages
    (sentence,) = [line for text in messages for line in text.splitlines() if line.startswith("napari-srast: ")]
    assert "being written by another process" in sentence or "exists already" in sentence
    assert "Traceback" not in "".join(messages)
    assert sorted(os.listdir(outside)) == ["o.zarr", "slide.zarr"]


@pytest.mark.slow
def test_concurrent_writers_produce_one_file(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _PREPARE + 'attempt("o.zarr")', str(tmp_path)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    messages = sorted(process.communicate(timeout=300)[0].strip() for process in both)
    assert messages[1] == "written"
    assert messages[0] == "written" or "another process" in messages[0] or "exists already" in messages[0]
    assert messages[0] != "written"
    assert os.listdir(tmp_path) == ["o.zarr"]
