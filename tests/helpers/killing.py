"""Kill writers at random moments and check what they leave: ``killing.py FOLDER new|stream|into N SEED [time|step]``.

"new" and "into" write a result that is in memory, to a new store and into the store of the slide; "stream" is a run
that writes a new store while it computes.

One process forks a writer for each moment, so that a moment takes the time of a write without the imports. Everything
that opens a store runs in a fork, because threads of Zarr and Dask do not survive forking. A moment is a random time
within the duration of a write ("time"), or a random one of its file system operations ("step"), which also finds the
short moments between two renames. The script prints a report as JSON, and exits with status 1 at the first violation.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import geopandas  # noqa: F401 - imported before the forks
import numpy as np
import pandas as pd
import spatialdata
import zarr  # noqa: F401
from anndata.io import write_elem  # noqa: F401
from scipy import sparse
from spatialdata.models import ShapesModel, TableModel

from napari_srast.api import upsample, upsample_to_store
from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide
from napari_srast.inference import tiles
from napari_srast.io import streaming_writer
from napari_srast.io.result_reader import list_runs, read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import write_store
from napari_srast.io.store_merge import merge_into  # noqa: F401

_STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.link", "shutil.copymode"}
KILLED = -signal.SIGKILL


def write_slide(path: Path) -> None:
    """Write a slide to a new store."""
    side = 8
    centers = np.column_stack([np.arange(side**2) % side, np.arange(side**2) // side]) * 100.0
    obs = pd.DataFrame({"region": pd.Categorical(["spots"] * len(centers)), "instance_id": np.arange(len(centers))})
    obs.index = [f"s{i}" for i in obs.index]
    counts = np.random.default_rng(0).poisson(5, (len(centers), 12)).astype(np.float32)
    table = anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"Gene{i}" for i in range(12)]))
    store = spatialdata.SpatialData(
        shapes={"spots": ShapesModel.parse(centers, geometry=0, radius=50.0)},
        tables={"table": TableModel.parse(table, region="spots", region_key="region", instance_key="instance_id")},
    )
    write_store(store, path)


def digest(folder: Path, without: set[str] = frozenset()) -> dict[str, str]:
    """Return the hash of every file in a folder, except those in ``without``."""
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and (name := str(file.relative_to(folder))) not in without
    }


def in_fork(job: Callable[[], object]) -> int:
    """Run a job in a fork and return its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            job()
            status = 0
        except BaseException:  # noqa: BLE001 - reported by the exit status
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_after(job: Callable[[], object], seconds: float) -> int:
    """Run a job in a fork and kill it after some seconds."""
    child = os.fork()
    if child == 0:
        try:
            job()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)  # a child that has ended is a zombie, which accepts the signal
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_step(job: Callable[[], object], step: int) -> int:
    """Run a job in a fork that kills itself immediately before its n-th file system operation."""
    left = [step]

    def hook(event: str, _: object) -> None:
        if event in _STEPS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.addaudithook(hook)
        job()

    return in_fork(watched)


def count_steps(job: Callable[[], object], note: Path) -> tuple[int, int]:
    """Run a job in a fork; return the number of its operations, and the index of the first rename to a final path."""
    steps, final_renames = [0], []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _STEPS:
            if event == "os.rename" and not {".partial", ".merging"} & set(Path(str(arguments[1])).suffixes):
                inside = any(part.startswith(".") for part in Path(str(arguments[1])).parts)
                final_renames.extend([] if inside else [steps[0]])
            steps[0] += 1

    def watched() -> None:
        sys.addaudithook(hook)
        job()
        note.write_text(json.dumps([steps[0], final_renames[0]]))

    assert in_fork(watched) == 0
    total, first = json.loads(note.read_text())
    return total, first


def check_new(folder: Path, before: dict[str, str], write: Callable[[], object]) -> None:
    """Check the folder after a writer of a new store was killed."""
    slide, out = folder / "slide.zarr", folder / "out.zarr"
    assert digest(slide) == before
    visible = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    assert set(visible) <= {"slide.zarr", "out.zarr"}, visible
    if out.exists():
        assert read_result(out).n_pixels == 256
        shutil.rmtree(out)
    write()
    assert sorted(path.name for path in folder.iterdir()) == ["out.zarr", "slide.zarr"]
    assert read_result(out).n_pixels == 256
    assert digest(slide) == before


def check_into(folder: Path, before: dict[str, str], expected: Slide, write: Callable[[], object]) -> None:
    """Check the folder after a writer into the store of the slide was killed."""
    path = folder / "slide.zarr"

    def same_slide() -> None:
        left = digest(path)
        assert {name: left[name] for name in before} == before
        slide = read_slide(path)
        np.testing.assert_array_equal(slide.counts.toarray(), expected.counts.toarray())
        np.testing.assert_array_equal(slide.centers, expected.centers)
        assert slide.notices == expected.notices == ()
        assert list(slide.transforms) == list(expected.transforms)

    same_slide()
    for run in list_runs(path):
        assert read_result(path, run).n_pixels == 256
    shown = spatialdata.read_zarr(path)
    finished = {f"srast_{run}" for run in list_runs(path)}
    assert {name.removesuffix("_expression") for name in shown.images} <= finished, "an unfinished result is shown"
    write()
    same_slide()
    assert [path.name for path in folder.iterdir()] == ["slide.zarr"]
    shown, runs = spatialdata.read_zarr(path), list_runs(path)
    assert "next" in runs
    assert {name.removesuffix("_expression") for name in shown.images} == {f"srast_{run}" for run in runs}
    assert set(shown.labels) == {f"srast_{run}_labels" for run in runs}
    assert set(shown.shapes) == {"spots", *(f"srast_{run}_pixels" for run in runs)}
    assert set(shown.tables) == {"table", *(f"srast_{run}_table" for run in runs)}


def run(folder: Path, how: str, n_moments: int, seed: int, by: str) -> dict[str, object]:
    """Kill ``n_moments`` writers and return the report."""
    import dataclasses

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pristine, at = folder / "pristine.zarr", folder / "at"
    assert in_fork(lambda: write_slide(pristine)) == 0
    slide_path, expected = at / "slide.zarr", _in_memory(pristine)
    result = upsample(expected, method="uniform", factor=2)

    if how == "stream":  # use many small tiles and writes
        tiles._MAX_PIXELS, tiles._MIN_SPOTS, streaming_writer._PORTION_ENTRIES = 16, 1, 100

    def write(run: str) -> None:
        if how == "stream":
            upsample_to_store(expected, at / "out.zarr", method="uniform", factor=2)
            return
        named: UpsampleResult = dataclasses.replace(result, run=run)
        write_result(named, slide_path if how == "into" else at / "out.zarr", into_slide=how == "into")

    def prepare() -> None:
        shutil.rmtree(at, ignore_errors=True)
        shutil.copytree(pristine, slide_path)

    without = {"zarr.json"} if how == "into" else set()  # the root metadata list the result once it is complete
    before = digest(pristine, without)
    prepare()
    steps, first_rename = count_steps(lambda: write("killed"), folder / "steps")
    prepare()
    started = time.perf_counter()
    assert in_fork(lambda: write("killed")) == 0
    seconds = time.perf_counter() - started
    rng = random.Random(seed)
    killed = unfinished = 0
    for moment in range(n_moments):
        prepare()
        if by == "time":
            status = kill_after(lambda: write("killed"), rng.uniform(0, 1.1 * seconds))
        else:
            first = 0 if moment % 2 else first_rename  # every second moment is among the renames
            step = rng.randrange(first, steps)
            status = kill_at_step(lambda: write("killed"), step)
            while status == 0 and step > 0:  # the number of operations varies between writes
                step -= 1
                prepare()
                status = kill_at_step(lambda: write("killed"), step)
        killed += status == KILLED
        left = {path.name for path in at.iterdir()} - {"slide.zarr", "out.zarr"}
        unfinished += any(not name.endswith(".lock") for name in left)
        if how == "into":
            status = in_fork(lambda: check_into(at, before, expected, lambda: write("next")))
        else:
            status = in_fork(lambda: check_new(at, before, lambda: write("next")))
        if status != 0:
            raise SystemExit(f"guarantee violated at moment {moment} of {how}, by {by}, seed {seed}")
    return {
        "written": how,
        "moments": n_moments,
        "by": by,
        "seed": seed,
        "seconds_of_a_write": round(seconds, 2),
        "steps_of_a_write": steps,
        "first_rename_at": first_rename,
        "killed_before_the_end": killed,
        "left_something_unfinished": unfinished,
        "passed": n_moments,
    }


def _in_memory(path: Path) -> Slide:
    """Read a slide in a fork and transfer it, so that this process starts no thread of Zarr."""
    import pickle

    note = path.with_suffix(".pickle")
    assert in_fork(lambda: note.write_bytes(pickle.dumps(dataclass_fields(read_slide(path))))) == 0
    return Slide(**pickle.loads(note.read_bytes()))


def dataclass_fields(slide: Slide) -> dict[str, object]:
    """Return a slide's fields as a dictionary."""
    return {name: getattr(slide, name) for name in Slide.__dataclass_fields__}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    output, kind, number, start, *rest = sys.argv[1:]
    report = run(Path(output), kind, int(number), int(start), rest[0] if rest else "time")
    sys.stdout.write(json.dumps(report) + "\n")
