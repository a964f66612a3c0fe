"""An out-of-memory error is one sentence with the next step, and is not reported as an input error."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from PIL import Image

from napari_srast.api import upsample
from napari_srast.cli import main
from napari_srast.errors import DeviceError, is_memory_error, translate_memory_errors
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.result_elements import to_spatialdata
from napari_srast.io.result_images import to_dense_image
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide

pytestmark = pytest.mark.filterwarnings("ignore")
CENTERS = np.column_stack([np.arange(16) % 4, np.arange(16) // 4]) * 100.0
NUMPYS = MemoryError("Unable to allocate 3.2 GiB for an array with shape (20000, 40000) and data type float32")
SYSTEMS = OSError(errno.ENOMEM, "Cannot allocate memory")
TORCHS = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to ...")

READING = "ran out of memory while reading the slide"
IMPORTING = "ran out of memory while importing the slide"
RUNNING = "ran out of memory during the run"
WRITING = "ran out of memory while writing the result, and nothing was left behind"
UPSAMPLE = ["upsample", "{slide}", "-o", "{out}.zarr", "--method", "uniform"]
TO_H5AD = ["upsample", "{slide}", "-o", "{out}.h5ad", "--method", "uniform"]
IMPORT = ["import", "{table}", "-o", "{out}.zarr"]


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, an image and the slide imported from them."""
    folder = tmp_path_factory.mktemp("sound")
    counts = np.random.default_rng(0).poisson(9, (16, 3)).astype(np.float32)
    table = anndata.AnnData(counts, obsm={"spatial": CENTERS}, uns={"meta": {"spot_diameter": 100.0}})
    table.write_h5ad(folder / "in.h5ad")
    Image.fromarray(np.full((350, 350, 3), 200, np.uint8)).save(folder / "he.png")
    import_slide(folder / "in.h5ad", folder / "slide.zarr", image=folder / "he.png", pixel_size=1.0)
    return folder


@pytest.mark.contract(
    section="Outputs and system errors",
    case="memory full while a slide is read, imported, run or written",
    response="ran out of memory while …; close other programs, or …",
)
@pytest.mark.parametrize("error", [NUMPYS, SYSTEMS, TORCHS], ids=["numpy", "system", "torch"])
@pytest.mark.parametrize(
    ("words", "where", "says"),
    [
        (UPSAMPLE, "spatialdata.read_zarr", READING),
        (UPSAMPLE, "napari_srast.io.slide_reader.raw_counts", READING),
        (["info", "{slide}"], "napari_srast.io.slide_description.detect_lattice", READING),
        (IMPORT, "anndata.read_h5ad", IMPORTING),
        ([*IMPORT, "--image", "{picture}", "--pixel-size", "1"], "PIL.Image.open", IMPORTING),
        (IMPORT, "napari_srast.io.convert.h5ad.raw_counts", IMPORTING),
        (UPSAMPLE, "napari_srast.inference.runner.make_rasters", RUNNING),
        (UPSAMPLE, "napari_srast.inference.validation.iterate_spot_sums", RUNNING),
        (UPSAMPLE, "anndata.io.sparse_dataset", RUNNING),
        (UPSAMPLE, "napari_srast.io.result_elements.describe_result", WRITING),
        (
            ["upsample", "{slide}", "-o", "{out}.h5ad", "--method", "uniform"],
            "napari_srast.inference.validation.ResultValidator.add",
            RUNNING,
        ),
        (TO_H5AD, "anndata.io.write_elem", WRITING),
        (["upsample", "{slide}", "-o", "{out}.csv", "--method", "uniform"], "pandas.concat", WRITING),
        (["evaluate", "{table}", "--pitch", "200"], "napari_srast.evaluation.protocol.evaluate", "ran out of memory;"),
        (["info", "default"], "napari_srast.checkpoints.storage.describe_checkpoint", "ran out of memory;"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_memory_error_is_one_sentence_on_the_command_line(
    words: list[str],
    where: str,
    says: str,
    error: Exception,
    sound: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"slide": sound / "slide.zarr", "table": sound / "in.h5ad", "picture": sound / "he.png"}
    before = content(sound)
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
    monkeypatch.setattr(where, raising(error))
    capsys.readouterr()
    assert main([word.format(**places, out=tmp_path / "out") for word in words]) == 2
    messages = capsys.readouterr().err
    (sentence,) = [line for line in messages.splitlines() if line.startswith("napari-srast: ")]
    assert sentence.startswith("napari-srast: This computer ran out of memory")
    assert says in sentence
    assert "close other programs, or" in sentence or "choose fewer genes" in sentence
    assert "Traceback" not in messages
    assert list(tmp_path.iterdir()) == []
    assert content(sound) == before


def test_memory_error_is_an_srast_error_in_python(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = upsample(read_slide(sound / "slide.zarr"), method="uniform")
    write_result(result, tmp_path / "o.h5ad")
    with monkeypatch.context() as full:
        full.setattr("anndata.read_h5ad", raising(NUMPYS))
        with pytest.raises(DeviceError, match="while reading the result"):
            read_result(tmp_path / "o.h5ad")
    assert read_result(tmp_path / "o.h5ad").run == result.run


@pytest.mark.parametrize("into_slide", [False, True])
def test_memory_error_in_a_writer_thread_leaves_nothing(
    into_slide: bool, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads continue for a while; their files have to be removed as well."""
    slide = tmp_path / "slide.zarr"
    shutil.copytree(sound / "slide.zarr", slide)
    before = content(tmp_path)
    result = upsample(read_slide(slide), method="uniform")
    paint, calls = to_dense_image, []

    def second_time(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise NUMPYS
        return paint(*arguments)

    monkeypatch.setattr("napari_srast.io.result_images.to_dense_image", second_time)
    with pytest.raises(DeviceError, match="while writing the result, and nothing was left behind"):
        write_result(result, slide if into_slide else tmp_path / "o.zarr", into_slide=into_slide)
    assert content(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["slide.zarr"]
    calls.clear()
    with pytest.raises(MemoryError):  # without a writer, the error is not translated
        next(iter(to_spatialdata(result).images.values())).compute()


def test_other_errors_are_not_translated() -> None:
    for error in (ValueError("can't allocate memory"), OSError(errno.ENOSPC, "No space left"), RuntimeError("other")):
        assert not is_memory_error(error)
        with pytest.raises(type(error)), translate_memory_errors("now", "wait"):
            raise error
    with pytest.raises(DeviceError) as messages, translate_memory_errors("now", "wait"):
        raise NUMPYS
    assert str(messages.value) == "This computer ran out of memory now; close other programs, or wait."
    assert messages.value.__cause__ is NUMPYS


_LITTLE = """
import resource, sys
from pathlib import Path
from napari_srast.cli import main
assert main(["upsample", sys.argv[1], "-o", sys.argv[3], "--method", "uniform"]) == 0  # import all, start threads
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, resource.RLIM_INFINITY))
sys.exit(main(["upsample", sys.argv[2], "-o", sys.argv[4], "--method", "uniform"]))
"""


@pytest.mark.contract(
    section="Outputs and system errors",
    case="memory full while a slide is read, imported, run or written",
    response="ran out of memory while …; close other programs, or …",
)
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_limit_of_the_process_is_one_sentence(
    sound: Path, make_slide: Callable[..., Any], make_store: Callable[..., Any], tmp_path: Path
) -> None:
    """The operating system refuses the memory; nothing is simulated."""
    from scipy import sparse

    from napari_srast.io.store import write_store

    ones = sparse.csr_matrix(np.ones((400, 100_000), np.float32))  # 320 MB, above the limit of the process
    genes = [f"Gene{i}" for i in range(ones.shape[1])]
    write_store(make_store(make_slide(20, 20), x=ones, genes=genes), tmp_path / "large.zarr")
    places = (sound / "slide.zarr", tmp_path / "large.zarr", tmp_path / "small.csv", tmp_path / "large.csv")
    done = subprocess.run(
        [sys.executable, "-c", _LITTLE, *map(str, places)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("napari-srast: ")]
    assert READING in sentence
    assert sorted(os.listdir(tmp_path)) == ["large.zarr", "small.csv"]
