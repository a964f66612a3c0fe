from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from helpers.slides import make_slide, make_store

from napari_srast.cli import main
from napari_srast.cli.commands import pseudobulk as module
from napari_srast.cli.sample_table import read_sample_table
from napari_srast.core.progress import Progress, RunMonitor
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled
from napari_srast.io import slide_reader

SIDE = 6
LEFT = '"POLYGON ((-60 -60, 250 -60, 250 900, -60 900, -60 -60))"'
RIGHT = '"POLYGON ((251 -60, 900 -60, 900 900, 251 900, 251 -60))"'
Tables = Callable[..., Path]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Slide]]:
    """A folder with the stores ``s0.zarr`` to ``s3.zarr``, the last one without the last gene, and their slides."""
    folder = tmp_path_factory.mktemp("donors")
    slides = [make_slide(SIDE, SIDE, 5, seed=seed) for seed in range(3)] + [make_slide(SIDE, SIDE, 4, seed=3)]
    for i, slide in enumerate(slides):
        make_store(slide, "squares").write(folder / f"s{i}.zarr")
    return folder, slides


@pytest.fixture
def table_of(stores: tuple[Path, list[Slide]], tmp_path: Path) -> Tables:
    """Write a table of samples, in which S is the folder of the stores."""

    def write(*lines: str) -> Path:
        path = tmp_path / "samples.csv"
        path.write_text("\n".join(lines).replace("S/", f"{stores[0]}/"), encoding="utf-8")
        return path

    return write


def halves() -> list[str]:
    header = "slide,donor,group,region"
    return [header, *(f"S/s{i}.zarr,d{i},{name}" for i in (0, 1) for name in (f"tumor,{LEFT}", f"stroma,{RIGHT}"))]


def test_regions_of_donors_are_summed_to_a_table_of_genes(
    stores: tuple[Path, list[Slide]], table_of: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "counts.csv"
    assert main(["compare", str(table_of(*halves())), "-o", str(output)]) == 0
    printed = capsys.readouterr()
    assert f"Wrote {output}" in printed.out
    assert printed.out.split()[:5] == ["sample", "donor", "group", "n_spots", "counts"]
    assert "5 genes. Measured counts are summed by donor and group" in printed.err
    assert "Some donors are in several groups" in printed.err
    counts = pd.read_csv(output)
    assert list(counts) == ["gene", "d0_tumor", "d0_stroma", "d1_tumor", "d1_stroma"]
    assert counts["gene"].tolist() == [f"Gene{i}" for i in range(5)]
    assert set(counts.dtypes.iloc[1:]) == {np.dtype("int64")}
    slide = stores[1][1]
    left = slide.centers[:, 0] < 250
    np.testing.assert_array_equal(counts["d1_tumor"], slide.counts[left].toarray().sum(axis=0))
    np.testing.assert_array_equal(counts["d1_stroma"], slide.counts[~left].toarray().sum(axis=0))


def test_whole_slides_are_summed_to_an_h5ad_file(
    stores: tuple[Path, list[Slide]], table_of: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table_of("slide,donor,group,sex", *(f"S/s{i}.zarr,d{i},{'ab'[i % 2]},f" for i in range(4)))
    assert main(["compare", str(path), "-o", str(tmp_path / "counts.h5ad")]) == 0
    error = capsys.readouterr().err
    assert "1 gene that some slides lack is left out" in error
    assert f"These columns of '{path}' are not used: sex." in error
    table = anndata.read_h5ad(tmp_path / "counts.h5ad")
    assert table.obs.to_dict("list") == {
        "donor": ["d0", "d1", "d2", "d3"],
        "group": ["a", "b", "a", "b"],
        "n_spots": [SIDE * SIDE] * 4,
    }
    assert table.var_names.tolist() == [f"Gene{i}" for i in range(4)]
    np.testing.assert_array_equal(table.X[2], stores[1][2].counts.toarray().sum(axis=0)[:4])


def test_each_slide_is_read_once(table_of: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    header, *rows = halves()
    read, opened = slide_reader.read_slide, []

    def count(source: Path, **options: object) -> Slide:
        opened.append(source.name)
        return read(source, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(slide_reader, "read_slide", count)
    assert main(["compare", str(table_of(header, *rows[::2], *rows[1::2]))]) == 0
    assert opened == ["s0.zarr", "s1.zarr"]


def test_annotations_of_a_class_are_summed(stores: tuple[Path, list[Slide]], table_of: Tables, tmp_path: Path) -> None:
    features = [
        {
            "type": "Feature",
            "properties": {"classification": {"name": kind}},
            "geometry": {"type": "Polygon", "coordinates": [[[x, -60], [x + 300, -60], [x + 300, 900], [x, 900]]]},
        }
        for x, kind in ((-60, "Tumor"), (241, "Stroma"))
    ]
    (tmp_path / "drawn.geojson").write_text(json.dumps(features), encoding="utf-8")
    rows = [f"S/s{i}.zarr,d{i},{kind},drawn.geojson,{kind}" for i in (0, 1) for kind in ("Tumor", "Stroma")]
    output = tmp_path / "counts.csv"
    assert main(["compare", str(table_of("slide,donor,group,region,class", *rows)), "-o", str(output)]) == 0
    slide = stores[1][0]
    expected = slide.counts[slide.centers[:, 0] < 240].toarray().sum(axis=0)
    np.testing.assert_array_equal(pd.read_csv(output)["d0_Tumor"], expected)


HEADER = "slide,donor,group,region"


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["slide,group", "a,b"], [], "has no column 'donor'"),
        ([HEADER, "S/s0.zarr,d0,a", "S/s1.zarr,d1,b", "S/s2.zarr,d2,b"], [], "Group 'a' has a single donor, 'd0'"),
        ([HEADER, "S/s0.zarr,d0,a", "S/s1.zarr,d1,a"], [], "need at least two groups"),
        (["none"], ["--genes", "Gene1"], "leave out regions, --genes, --block and --plot"),
        (["none"], ["--block", "6"], "leave out regions, --genes, --block and --plot"),
        (["none"], ["--plot", "a.svg"], "leave out regions, --genes, --block and --plot"),
        (["none"], ["tumor=tumor.geojson"], "leave out regions, --genes, --block and --plot"),
        (halves(), ["-o", "counts.txt"], "no known ending"),
        (halves(), ["-o", "taken.csv"], "exists already"),
        (halves(), ["--coordinate-system", "um"], "Line 2 of"),
        ([*halves(), "S/none.zarr,d1,tumor"], [], "There is no slide of line 6 of"),
        ([*halves(), "samples.csv,d1,tumor"], [], "Line 6 of"),
        ([*halves(), "S/s2.zarr,d2,tumor,none.geojson"], [], "none.geojson' cannot be read"),
        ([*halves(), '"S/s2.zarr",d2,tumor,"POLYGON ((0 1, 0 2, 1 1, 0 1))"'], [], "encloses no spot"),
        ([*halves(), "S/s0.zarr,d2,tumor"], [], "36 spots of donor 'd2' in group 'tumor' would be in another"),
    ],
)
def test_wrong_samples_are_refused_in_one_sentence(
    table_of: Tables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.csv").write_text("kept", encoding="utf-8")
    path = table_of(*lines)
    before = sorted(tmp_path.iterdir())
    assert main(["compare", str(path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "taken.csv").read_text(encoding="utf-8") == "kept"


def test_missing_table_and_missing_regions_are_named(
    stores: tuple[Path, list[Slide]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(tmp_path / "none.csv")]) == 2
    assert "There is no table of samples at" in capsys.readouterr().err
    assert main(["compare", str(stores[0] / "s0.zarr")]) == 2
    assert "No region of the slide is named; write NAME=FILE.geojson" in capsys.readouterr().err


def test_slides_without_common_genes_are_refused(
    table_of: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genes = [f"Other{i}" for i in range(5)]
    make_store(make_slide(SIDE, SIDE, 5), "squares", genes=genes).write(tmp_path / "other.zarr")
    path = table_of(*halves(), "other.zarr,d2,tumor")
    assert main(["compare", str(path)]) == 2
    assert f"Line 6 of '{path}': The slides have no gene in common" in capsys.readouterr().err


def test_progress_is_reported_and_cancellation_stops(table_of: Tables) -> None:
    samples, steps = read_sample_table(table_of(*halves())), list[Progress]()
    module.sum_samples(samples, None, RunMonitor(on_progress=steps.append))
    assert [(step.done, step.total, step.detail) for step in steps] == [(i, 4, f"s{i // 2}.zarr") for i in range(4)]
    with pytest.raises(Cancelled):
        module.sum_samples(samples, None, RunMonitor(should_stop=lambda: True))


def test_interrupt_leaves_no_file(
    table_of: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slide_reader, "read_slide", interrupt)
    path = table_of(*halves())
    assert main(["compare", str(path), "-o", str(tmp_path / "counts.csv")]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["counts.csv", "counts.h5ad"])
def test_full_disk_is_one_sentence(
    name: str, table_of: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    monkeypatch.setattr("napari_srast.io.h5ad_writer.write_h5ad", fail)
    path = table_of(*halves())
    assert main(["compare", str(path), "-o", str(tmp_path / name)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]
