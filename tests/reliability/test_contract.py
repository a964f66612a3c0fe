"""Rows of the input contract that no other test covers; see docs/reliability_contract.md."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from scipy import sparse
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Identity, Scale, set_transformation

from napari_srast._utils.devices import available_devices
from napari_srast.api import upsample
from napari_srast.checkpoints import storage
from napari_srast.cli import main
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import write_store

pytestmark = pytest.mark.filterwarnings("ignore")
MakeStore = Callable[..., Any]


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop ``main`` from hiding the warnings and log lines of later tests."""
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Write a store and upsample it; check that there is one sentence, no leftover file and no changed input."""

    def run(store: Any, *options: str) -> tuple[int, str]:
        slide, out = tmp_path / "slide.zarr", tmp_path / "out"
        if not isinstance(store, Path):
            write_store(store, slide)
        elif store != slide:
            shutil.copytree(store, slide)
        out.mkdir()
        before = {path: path.read_bytes() for path in slide.rglob("*") if path.is_file()}
        capsys.readouterr()
        status = main(
            [
                "upsample",
                str(slide),
                "-o",
                str(out / "o.csv"),
                "--method",
                "uniform",
                "--factor",
                "2",
                "--expression",
                "none",
                *options,
            ]
        )
        messages = capsys.readouterr().err
        assert {path: path.read_bytes() for path in slide.rglob("*") if path.is_file()} == before
        assert status in (0, 2), messages
        assert "Traceback" not in messages
        sentences = [line for line in messages.splitlines() if line.startswith("napari-srast: ")]
        assert len(sentences) == (status == 2), messages
        assert [path.name for path in out.iterdir()] == ([] if status else ["o.csv"])
        return status, messages

    return run


def unlinked(store: Any) -> Any:
    """Remove the link between a table and its spots."""
    table = store.tables["table"].copy()
    del store.tables["table"]
    table.obs = table.obs.drop(columns=["region", "instance_id"])
    table.uns.pop("spatialdata_attrs")
    store.tables["table"] = TableModel.parse(table)
    return store


@pytest.mark.contract(
    section="Tables and counts",
    case="the same with other names",
    response="do not match; link the table again",
)
def test_unlinked_table_with_other_names_is_refused(make_slide: Any, make_store: MakeStore, command: Any) -> None:
    status, messages = command(unlinked(make_store(make_slide(3, 3))))
    assert status == 2  # spots are 10, 11, ...; rows are spot0, spot1, ...
    assert "do not match" in messages


@pytest.mark.contract(
    section="Tables and counts",
    case="table that annotates nothing",
    response="matched by the names of the spots where that is possible",
)
def test_unlinked_table_is_matched_by_names(
    make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path
) -> None:
    made = make_slide(3, 3)
    store = unlinked(make_store(made))
    store.tables["table"].obs_names = [str(10 + i) for i in range(9)]
    status, messages = command(store)
    assert status == 0, messages
    written = pd.read_csv(tmp_path / "out" / "o.csv").iloc[:, 3:].to_numpy().sum(axis=0)
    np.testing.assert_allclose(written, made.counts.toarray().sum(axis=0), rtol=1e-6)


@pytest.mark.contract(
    section="Tables and counts",
    case="several tables",
    response="choose one with --table",
)
@pytest.mark.parametrize("chosen", [False, True])
def test_several_tables_ask_for_a_choice(
    chosen: bool, make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path
) -> None:
    made = make_slide(3, 3)
    store = make_store(made)
    second = store.tables["table"].copy()
    second.X = second.X * 2
    store.tables["second"] = second
    status, messages = command(store, *(["--table", "second"] if chosen else []))
    assert status == (0 if chosen else 2)
    if chosen:
        written = pd.read_csv(tmp_path / "out" / "o.csv").iloc[:, 3:].to_numpy().sum(axis=0)
        np.testing.assert_allclose(written, 2 * made.counts.toarray().sum(axis=0), rtol=1e-6)
    else:
        assert "Several tables count the spots 'spots'; choose one with --table: " in messages


@pytest.mark.contract(
    section="Tables and counts",
    case="several kinds of spots",
    response="choose one with --spots",
)
@pytest.mark.parametrize("chosen", [False, True])
def test_several_kinds_of_spots_ask_for_a_choice(
    chosen: bool, make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path
) -> None:
    store = make_store(make_slide(3, 3))
    other = make_store(make_slide(2, 2), table="others")
    store.shapes["bins"] = other.shapes["spots"]
    table = other.tables["others"].copy()
    table.obs["region"] = pd.Categorical(["bins"] * 4)
    table.uns["spatialdata_attrs"]["region"] = "bins"
    store.tables["others"] = table
    status, messages = command(store, *(["--spots", "bins"] if chosen else []))
    assert status == (0 if chosen else 2)
    if chosen:
        assert len(pd.read_csv(tmp_path / "out" / "o.csv")) == 16
    else:
        assert "several kinds of spots; choose one with --spots: " in messages
        assert "bins" in messages


@pytest.mark.contract(
    section="Spots and transformations",
    case="rotation, shear, mirror, other units",
    response="followed",
)
@pytest.mark.contract(
    section="Spots and transformations",
    case="transformation that is flat, not finite, or by 10²⁰⁰",
    response="cannot be inverted; set it again",
)
@pytest.mark.parametrize(
    ("matrix", "ok"),
    [
        ([[0.5, -0.5, 30], [0.5, 0.5, -7], [0, 0, 1]], True),
        ([[1.3, 0.4, -3], [0.1, 0.8, 55], [0, 0, 1]], True),
        ([[-1, 0, 900], [0, 1, 0], [0, 0, 1]], True),
        ([[1e-6, 0, 0], [0, 1e-6, 0], [0, 0, 1]], True),
        ([[1, 0, 0], [1, 0, 0], [0, 0, 1]], False),
        ([[np.nan, 0, 0], [0, 1, 0], [0, 0, 1]], False),
        ([[1e200, 0, 0], [0, 1e200, 0], [0, 0, 1]], False),
    ],
    ids=["rotation", "shear", "mirror", "another unit", "flat", "not a number", "beyond reckoning"],
)
def test_transformation_is_applied_or_refused(
    matrix: list[list[float]], ok: bool, make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path
) -> None:
    made = make_slide(3, 3, transforms={"global": np.array(matrix, dtype=float)})
    corners = made.to_cs[:2, :2] @ (np.array([[-60, 160, 160, -60], [-60, -60, 160, 160]])) + made.to_cs[:2, 2:]
    ring = ", ".join(f"{x!r} {y!r}" for x, y in [*corners.T.tolist(), corners.T.tolist()[0]])
    options = ["--region", f"POLYGON (({ring}))"] if ok else []
    status, messages = command(make_store(made), *options)
    assert status == (0 if ok else 2)
    if ok:
        assert len(pd.read_csv(tmp_path / "out" / "o.csv")) == 16  # the four spots around the first corner
    else:
        assert "cannot be inverted" in messages


@pytest.mark.contract(
    section="Spots and transformations",
    case="no transformation",
    response="the default system",
)
def test_missing_transformation_means_the_default_system(make_slide: Any, make_store: MakeStore, command: Any) -> None:
    store = make_store(make_slide(3, 3))
    store.shapes["spots"].attrs = {}
    store.shapes["spots"] = ShapesModel.parse(store.shapes["spots"])
    assert command(store)[0] == 0


@pytest.mark.contract(
    section="Images",
    case="RGBA, 16 bits, five channels, multiscale, 60,000 pixels wide",
    response="used",
)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4, 40, 60), np.uint8), ((3, 40, 60), np.uint16), ((5, 40, 60), np.uint8), ((3, 10, 60_000), np.uint8)],
    ids=["RGBA", "16 bits", "five channels", "60,000 pixels wide"],
)
def test_any_image_is_accepted(
    shape: tuple[int, int, int], dtype: type, make_slide: Any, make_store: MakeStore, command: Any
) -> None:
    image = Image2DModel.parse(np.zeros(shape, dtype), dims=("c", "y", "x"), scale_factors=[2])
    assert command(make_store(make_slide(3, 3), images={"he": image}))[0] == 0


@pytest.mark.contract(
    section="Images",
    case="named image that lost its pixels",
    response="the same",
)
def test_image_without_pixels_is_refused(make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path) -> None:
    image = Image2DModel.parse(np.ones((3, 8, 8), np.uint8), dims=("c", "y", "x"))
    write_store(make_store(make_slide(3, 3), images={"he": image}), tmp_path / "slide.zarr")
    shutil.rmtree(tmp_path / "slide.zarr" / "images" / "he")
    assert command(tmp_path / "slide.zarr", "--image", "he")[0] == 2


@pytest.mark.contract(
    section="Images",
    case="image in another coordinate system",
    response="*notice:* was left out",
)
def test_image_in_another_system_is_omitted_with_a_warning(
    make_slide: Any, make_store: MakeStore, command: Any
) -> None:
    image = Image2DModel.parse(np.zeros((3, 8, 8)), dims=("c", "y", "x"), transformations={"other": Identity()})
    status, messages = command(make_store(make_slide(3, 3), images={"he": image}))
    assert status == 0
    assert "shares no coordinate system" in messages


@pytest.mark.contract(
    section="Tables and counts",
    case="the same, with a layer of counts",
    response="*notice:* X holds no raw counts; those in its layer 'counts' were used",
)
def test_counts_layer_replaces_log_normalized_x(
    make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path
) -> None:
    made = make_slide(3, 3)
    status, messages = command(make_store(made, x=made.counts.log1p(), layers={"counts": made.counts}))
    assert status == 0
    assert "those in its layer 'counts' were used" in messages
    written = pd.read_csv(tmp_path / "out" / "o.csv").iloc[:, 3:].to_numpy().sum(axis=0)
    np.testing.assert_allclose(written, made.counts.toarray().sum(axis=0), rtol=1e-6)


@pytest.mark.contract(
    section="Spots and transformations",
    case="all spots at the same coordinates",
    response="their coordinates were lost; export the slide again",
)
def test_spots_with_identical_coordinates_are_refused(make_slide: Any, make_store: MakeStore, command: Any) -> None:
    made = make_slide(3, 3)
    made.centers[:] = 5.0
    status, messages = command(make_store(made))
    assert status == 2
    assert "All 9 spots have the same coordinates" in messages


@pytest.mark.contract(
    section="Requests",
    case="region in another coordinate system",
    response="used there",
)
def test_region_is_read_in_its_coordinate_system(
    make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path
) -> None:
    store = make_store(make_slide(3, 3))
    set_transformation(store.shapes["spots"], Scale([0.01, 0.01], axes=("x", "y")), "small")
    corner = "POLYGON ((-0.5 -0.5, 0.5 -0.5, 0.5 0.5, -0.5 0.5, -0.5 -0.5))"
    assert command(store, "--coordinate-system", "small", "--region", corner)[0] == 0
    assert len(pd.read_csv(tmp_path / "out" / "o.csv")) == 4


@pytest.mark.contract(
    section="Stores",
    case="Zarr format 2",
    response="used; results go to a new store",
)
def test_zarr_format_2_is_read_but_not_written_into(
    make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path
) -> None:
    from spatialdata._io.format import SpatialDataContainerFormatV01

    made, path = make_slide(3, 3), tmp_path / "slide.zarr"
    make_store(made).write(path, sdata_formats=SpatialDataContainerFormatV01())
    assert (path / ".zgroup").exists()
    status, messages = command(path)
    assert status == 0, messages
    result = upsample(read_slide(path), method="uniform")
    with pytest.raises(Exception, match="old Zarr format 2") as caught:
        write_result(result, path, into_slide=True)
    assert "new store" in str(caught.value)


@pytest.mark.contract(
    section="Requests",
    case="a device that the method does not use",
    response="*notice:* runs on the CPU",
)
def test_unused_device_gives_a_warning(make_slide: Any, make_store: MakeStore, command: Any) -> None:
    status, messages = command(make_store(make_slide(3, 3)), "--device", "cuda")
    assert status == 0
    assert "Note: Method 'uniform' runs on the CPU; device 'cuda' is not used." in messages


def test_ineffective_settings_give_one_warning(make_slide: Any, make_store: MakeStore, command: Any) -> None:
    status, messages = command(make_store(make_slide(3, 3)), "--mode", "sample", "--draws", "4", "--steps", "3")
    assert status == 0
    assert (
        messages.count(
            "Note: Method 'uniform' draws no samples, so its counts have no standard deviation; choose 'srast'."
        )
        == 1
    )
    assert messages.count("Note: Only method 'srast' in mode 'sample' uses draws and steps.") == 1


def _shipped() -> Path:
    return Path(storage.__file__).parent / "default.safetensors"


def _header(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


@pytest.mark.contract(
    section="Models",
    case="missing, unreadable (a folder, a text), empty, truncated, another version, not ours, other weights",
    response="says which; fetch it again or use another",
)
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("missing", "There is no model"),
        ("empty", "not a readable safetensors"),
        ("truncated", "not a readable safetensors"),
        ("a text", "not a readable safetensors"),
        ("a folder", "There is no model"),
        ("another version", "has format 99"),
        ("not ours", "is not a napari-srast model"),
        ("other weights", "does not fit this version"),
    ],
)
def test_unusable_checkpoint_is_refused(
    fault: str, says: str, make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path
) -> None:
    path, content = tmp_path / "m.safetensors", _shipped().read_bytes()
    tensors, known = load_file(_shipped()), _header(_shipped())
    if fault == "empty":
        path.write_bytes(b"")
    elif fault == "a text":
        path.write_text("weights: none")
    elif fault == "a folder":
        path.mkdir()
    elif fault == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "another version":
        text = json.dumps({**json.loads(known["napari_srast"]), "format": 99})
        save_file(tensors, path, metadata={"napari_srast": text})
    elif fault == "not ours":
        save_file(tensors, path)
    elif fault == "other weights":
        save_file({"x": np.zeros(3, np.float32)}, path, metadata=known)
    status, messages = command(make_store(make_slide(3, 3)), "--method", "srast", "--model", str(path))
    assert status == 2
    assert says in messages


@pytest.mark.contract(
    section="Models",
    case="shipped model with a wrong checksum",
    response="is damaged; install again",
)
def test_shipped_checkpoint_with_wrong_checksum_is_refused(
    make_slide: Any, make_store: MakeStore, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SHIPPED", {"default": "0" * 64})
    status, messages = command(make_store(make_slide(3, 3)), "--method", "srast")
    assert status == 2
    assert "checksum differs" in messages


@pytest.mark.contract(
    section="Tables and counts",
    case="repeated ids",
    response="give every spot its own id",
)
def test_repeated_ids_are_refused(make_slide: Any, make_store: MakeStore, command: Any) -> None:
    store = make_store(make_slide(3, 3))
    store.tables["table"].obs["instance_id"] = np.full(9, 10)
    status, messages = command(store)
    assert status == 2
    assert "give every spot its own id" in messages


@pytest.mark.contract(
    section="Stores",
    case="element that is half-written next to sound ones",
    response="*notice:* was left out",
)
def test_half_written_element_is_omitted_with_a_warning(
    make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path
) -> None:
    store = make_store(make_slide(3, 3))
    store.shapes["other"] = ShapesModel.parse(np.zeros((1, 2)), geometry=0, radius=1.0)
    write_store(store, tmp_path / "slide.zarr")
    (tmp_path / "slide.zarr" / "shapes" / "other" / "shapes.parquet").unlink()
    status, messages = command(tmp_path / "slide.zarr")
    assert status == 0
    assert "shapes/other" in messages


@pytest.mark.contract(
    section="Requests",
    case="a device that is not there",
    response="not present on this machine; choose …",
)
def test_missing_device_is_refused(make_slide: Any, make_store: MakeStore, command: Any) -> None:
    missing = [device for device in ("cuda", "mps") if device not in available_devices()]
    if not missing:
        pytest.skip("this machine has every device")
    status, messages = command(make_store(make_slide(3, 3)), "--method", "srast", "--device", missing[0])
    assert status == 2
    assert f"device '{missing[0]}' is not present on this machine" in messages


@pytest.mark.contract(
    section="Tables and counts",
    case="counts above 16 million, 64-bit counts, spots of 10⁵ counts",
    response="used; sums to 1e-6 of a count",
)
@pytest.mark.contract(
    section="Tables and counts",
    case="the same in integer mode, above 2²⁴",
    response="keeps counts up to 16777216 exactly; use mode 'mean'",
)
@pytest.mark.parametrize(("mode", "status"), [("mean", 0), ("integer", 2)])
def test_counts_above_float32_are_refused_in_integer_mode_only(
    make_slide: Any, make_store: MakeStore, command: Any, mode: str, status: int
) -> None:
    made = make_slide(3, 3)
    large = sparse.csr_matrix(np.full(made.counts.shape, 2.0**24 + 1))
    ended, messages = command(make_store(made, x=large), "--mode", mode)
    assert ended == status
    assert ("use mode 'mean'" in messages) == (mode == "integer")


@pytest.mark.contract(
    section="Outputs and system errors",
    case="disk full while writing, each format",
    response="cannot be written (…); nothing was left behind",
)
@pytest.mark.parametrize("ending", [".zarr", ".h5ad", ".csv", ".csv.gz"])
def test_full_disk_is_one_sentence(
    ending: str, make_slide: Any, make_store: MakeStore, command: Any, tmp_path: Path, filling_disk: Any
) -> None:
    write_store(make_store(make_slide(5, 5)), tmp_path / "slide.zarr")
    with filling_disk():
        status, messages = command(
            tmp_path / "slide.zarr", "-o", str(tmp_path / "out" / f"o{ending}"), "--factor", "16"
        )
    assert status == 2
    assert "nothing was left behind" in messages


@pytest.mark.contract(
    section="Outputs and system errors",
    case="read-only folder",
    response="cannot be written to; choose another one",
)
def test_read_only_folder_is_refused_before_computing(
    make_slide: Any,
    make_store: MakeStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_store(make_store(make_slide(3, 3)), tmp_path / "slide.zarr")
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)  # root can write everywhere
    assert main(["upsample", str(tmp_path / "slide.zarr"), "-o", str(tmp_path / "o.csv")]) == 2
    assert "cannot be written to; choose another one" in capsys.readouterr().err


def test_result_of_format_1_is_readable() -> None:
    """The file was written by the first version with format 1; every later version has to open it."""
    from napari_srast.io.result_reader import read_result

    golden = Path(__file__).parent / "golden" / "result_format_1.h5ad"
    expected = json.loads(golden.with_suffix(".json").read_text())
    result = read_result(golden)
    assert result.run == expected["run"]
    assert result.provenance["format_version"] == 1
    assert list(result.genes) == expected["genes"]
    assert result.raster.shape == tuple(expected["shape"])
    np.testing.assert_allclose(
        result.raster.sum_to_spots(result.counts.toarray())[result.raster.spots], expected["counts"], rtol=1e-6
    )
    assert "rebuilt" in result.slide.notices[0]
