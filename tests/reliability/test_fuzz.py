"""Random slides and damaged stores: each is used or refused with one sentence; none is changed, hangs or crashes.

``NAPARI_SRAST_FUZZ=2000 NAPARI_SRAST_FUZZ_REPORT=fuzz.json pytest tests/reliability/test_fuzz.py`` tries more of them
than the few of every run, and writes down how many and what became of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.slide_strategies import Request, apply, damages, requests, slides
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from napari_srast.api import upsample
from napari_srast.cli import main
from napari_srast.core.region import Region
from napari_srast.core.settings import UpsampleSettings
from napari_srast.errors import SrastError
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import write_store

N_CASES = int(os.environ.get("NAPARI_SRAST_FUZZ", "20"))
REPORT = os.environ.get("NAPARI_SRAST_FUZZ_REPORT")
SECONDS = 60  # processor time per case
FUZZ = settings(
    max_examples=N_CASES,
    deadline=None,
    derandomize=REPORT is None,  # the test suite repeats the same cases; long runs try new ones
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(0 if REPORT else 600)]


class Tally:
    """Count the outcomes of a fuzzer."""

    def __init__(self, name: str) -> None:
        self.name, self.outcomes, self.slowest = name, Counter[str](), 0.0
        self.sentences: set[str] = set()

    @contextmanager
    def case(self) -> Iterator[None]:
        """Time one case on the processor; a hang is an error."""
        started = time.process_time()
        before = signal.signal(signal.SIGPROF, _hang)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
            self.slowest = max(self.slowest, time.process_time() - started)
            if self.outcomes.total() % 50 == 0:
                self.write()  # an interrupted run keeps its counts

    def refused(self, sentence: str) -> None:
        """Count a refusal; what it says must be one sentence."""
        assert sentence
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        self.outcomes["refused in one sentence"] += 1
        self.sentences.add("".join(c for c in sentence if not c.isdigit())[:60])

    def write(self) -> None:
        """Write the figures down where a report was asked for."""
        if REPORT:
            path = Path(REPORT)
            known = json.loads(path.read_text()) if path.exists() else {}
            known[self.name] = {
                "cases": self.outcomes.total(),
                **dict(sorted(self.outcomes.items())),
                "different sentences": len(self.sentences),
                "slowest case, processor seconds": round(self.slowest, 1),
            }
            path.write_text(json.dumps(known, indent=2))


def _hang(*_: object) -> None:
    raise TimeoutError(f"a case took more than {SECONDS} s of the processor")


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[dict[str, Tally]]:
    tallies: dict[str, Tally] = {}
    yield tallies
    for one in tallies.values():
        one.write()


@FUZZ
@given(store=slides(), request=requests())
def test_random_slide_is_upsampled_or_refused(store: Any, request: Request, tally: dict[str, Tally]) -> None:
    messages = tally.setdefault("slides", Tally("slides"))
    with messages.case():
        try:
            slide = read_slide(store)
            region = None if request.region is None else Region.from_wkt(request.region, slide.coordinate_system)
            result = upsample(slide, region, request.genes, settings=UpsampleSettings(**request.options))
        except SrastError as error:
            messages.refused(str(error))
            return
        messages.outcomes["upsampled"] += 1
        columns = slide.gene_indices(request.genes)
        spots = result.raster.spots
        sums = result.raster.sum_to_spots(result.counts.toarray())[spots]
        exact = request.options["mode"] == "integer"
        np.testing.assert_allclose(
            sums, slide.counts.toarray().astype(float)[spots][:, columns], rtol=0 if exact else 1e-6
        )
        assert result.counts.min() >= 0
        if region is not None:
            np.testing.assert_array_equal(spots, np.flatnonzero(region.spots(slide)))


@settings(FUZZ, max_examples=max(5, N_CASES // 10))
@given(store=slides(), request=requests())
def test_random_slide_on_disk_keeps_its_bytes(
    store: Any,
    request: Request,
    tally: dict[str, Tally],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    messages = tally.setdefault("slides on disk", Tally("slides on disk"))
    folder = tmp_path_factory.mktemp("fuzz")
    try:
        write_store(store, folder / "slide.zarr")
    except Exception:  # noqa: BLE001 - SpatialData cannot write this case
        messages.outcomes["not writable by SpatialData"] += 1
        shutil.rmtree(folder)
        return
    words = [f"--{name.replace('_', '-')}={value}" for name, value in request.options.items()]
    if "pixel_size" in request.options:  # the command line takes one of the two
        words = [word for word in words if not word.startswith("--factor")]
    words += [] if request.region is None else [f"--region={request.region}"]
    words += [] if not request.genes else [f"--genes={','.join(request.genes)}"]
    with messages.case():
        _through_the_command_line(folder, words, messages, monkeypatch, capsys)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, make_slide: Any) -> Path:
    """A folder with a valid store of circles and an image, and a copy with an earlier result."""
    import anndata
    from PIL import Image

    from napari_srast.io.convert.importer import import_slide

    folder = tmp_path_factory.mktemp("sound")
    slide = make_slide(4, 4, 3)
    table = anndata.AnnData(slide.counts, obsm={"spatial": slide.centers}, uns={"meta": {"spot_diameter": 100.0}})
    table.obs_names, table.var_names = list(slide.spot_ids), list(slide.genes)
    table.write_h5ad(folder / "in.h5ad")
    Image.fromarray(np.full((350, 350, 3), 200, np.uint8)).save(folder / "he.png")
    path = import_slide(folder / "in.h5ad", folder / "slide.zarr", image=folder / "he.png", pixel_size=1.0)
    shutil.copytree(path, folder / "with_result.zarr")
    write_result(upsample(read_slide(path), method="uniform"), folder / "with_result.zarr", into_slide=True)
    return folder


@FUZZ
@given(damage=damages(), with_result=st.integers(0, 4).map(lambda n: n == 0))
def test_damaged_store_is_used_or_refused(
    damage: Any,
    with_result: bool,
    sound: Path,
    tally: dict[str, Tally],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    messages = tally.setdefault("damaged stores", Tally("damaged stores"))
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(sound / ("with_result.zarr" if with_result else "slide.zarr"), folder / "slide.zarr")
    apply(folder / "slide.zarr", damage)
    with messages.case():
        _through_the_command_line(folder, ["--method=uniform"], messages, monkeypatch, capsys, describe=with_result)
    shutil.rmtree(folder)


def _through_the_command_line(
    folder: Path,
    words: list[str],
    messages: Tally,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    describe: bool = True,
) -> None:
    """Upsample and describe; check that both succeed or give one sentence, and that no file is left or changed."""
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
    slide, out = folder / "slide.zarr", folder / "o.csv"
    before = _content(slide)
    capsys.readouterr()
    status = main(["upsample", str(slide), "-o", str(out), *words])
    text = capsys.readouterr().err
    sentences = [line for line in text.splitlines() if line.startswith("napari-srast: ")]
    assert status in (0, 2), text
    assert "Traceback" not in text
    if status == 0:
        messages.outcomes["upsampled"] += 1
        assert len(pd.read_csv(out, keep_default_na=False))
    else:
        assert len(sentences) == 1, text
        messages.refused(sentences[0])
    if describe:
        assert main(["info", str(slide), "--json"]) in (0, 2), capsys.readouterr().err
        assert "Traceback" not in capsys.readouterr().err
    assert _content(slide) == before
    assert {path.name for path in folder.iterdir()} == {"slide.zarr"} | ({"o.csv"} if status == 0 else set())


def _content(folder: Path) -> dict[str, bytes | str]:
    """Return every file of a folder, and the targets of links."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
