"""Untrusted input: no code is run, no memory is exhausted, no path leaves its folder, no connection is opened."""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import pickle
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
import torch

import napari_srast
from napari_srast.api import upsample
from napari_srast.checkpoints.storage import load_checkpoint
from napari_srast.cli import main
from napari_srast.errors import InputError, ModelError
from napari_srast.io import safety_limits
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide

ROOT = Path(napari_srast.__file__).parent
CENTERS = np.column_stack([np.arange(20) % 5, np.arange(20) // 5]) * 100.0


class Bomb:
    """Create a file when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module")
def _source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide as SpatialData writes it, with circles and an image."""
    folder = tmp_path_factory.mktemp("security")
    table = anndata.AnnData(np.random.default_rng(0).poisson(5, (20, 4)).astype(np.float32), obsm={"spatial": CENTERS})
    table.uns["meta"] = {"spot_diameter": 100.0}
    table.write_h5ad(folder / "in.h5ad")
    from PIL import Image

    Image.fromarray(np.full((350, 450, 3), 200, np.uint8)).save(folder / "he.png")
    return import_slide(folder / "in.h5ad", folder / "slide.zarr", image=folder / "he.png", pixel_size=1.0)


@pytest.fixture
def slide(_source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_source, tmp_path / "slide.zarr"))


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def declare(node: dict[str, Any], shape: list[int], chunks: list[int] | None = None) -> None:
    node["shape"] = shape
    if chunks is not None:
        node["chunk_grid"]["configuration"]["chunk_shape"] = chunks


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]) -> str:
    monkeypatch.setattr("napari_srast.cli._silence_third_parties", lambda: None)
    capsys.readouterr()
    assert main(words) == 2
    messages = capsys.readouterr().err
    assert "Traceback" not in messages
    (sentence,) = [line for line in messages.splitlines() if line.startswith("napari-srast: ")]
    return sentence


# ------------------------------------------------------------------- memory


@pytest.mark.contract(
    section="Stores",
    case="declares more than the memory of this machine",
    response="'…' declares … GB, but this machine has …",
)
@pytest.mark.contract(
    section="Images",
    case="more than 10¹² values or 10⁷ chunks",
    response="restore or rechunk it",
)
@pytest.mark.parametrize(
    ("array", "shape", "chunks", "says"),
    [
        ("tables/table/X/data", [10**12], None, "'tables/table'"),
        ("tables/table/X/indptr", [10**12], None, "'tables/table'"),
        ("tables/table/obs/instance_id", [10**14], None, "'tables/table'"),
        ("tables/table/X/data", [80], [10**12], "one chunk"),
        ("images/he/s0", [3, 10**6, 10**6], None, "3e+12 values"),
        ("images/he/s0", [3, 60_000, 60_000], [1, 1, 1], "1.08e+10 chunks"),
        ("images/he/s0", [3, 350, 450], [10**5, 10**5, 10**5], "one chunk"),
    ],
)
@pytest.mark.parametrize("where", ["its own metadata", "those of the root"])
def test_declared_size_above_memory_is_refused(
    array: str,
    shape: list[int],
    chunks: list[int] | None,
    says: str,
    where: str,
    slide: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if where == "its own metadata":
        edit(slide / array / "zarr.json", lambda node: declare(node, shape, chunks))
    else:
        edit(slide / "zarr.json", lambda root: declare(root["consolidated_metadata"]["metadata"][array], shape, chunks))
    monkeypatch.setattr("spatialdata.read_zarr", lambda *_, **__: pytest.fail("it was read"))
    words = ["upsample", str(slide), "-o", str(tmp_path / "o.csv"), "--method", "uniform"]
    assert says in refused(capsys, monkeypatch, words)
    assert says in refused(capsys, monkeypatch, ["info", str(slide)])
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.contract(
    section="Imports",
    case="image that declares more pixels than the memory holds",
    response="'…' declares … GB, but this machine has …",
)
@pytest.mark.parametrize(("ending", "takes"), [("png", "0.0014"), ("tif", "0.0006")])
def test_image_larger_than_memory_is_refused(
    ending: str,
    takes: str,
    slide: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An image of zeros compresses to a thousandth of its size."""
    from PIL import Image

    table = anndata.AnnData(np.ones((20, 2), np.float32), obsm={"spatial": CENTERS})
    table.write_h5ad(tmp_path / "in.h5ad")
    Image.fromarray(np.zeros((400, 500, 3), np.uint8)).save(tmp_path / f"he.{ending}")
    monkeypatch.setattr(safety_limits, "memory_limit", lambda: 599_999)
    monkeypatch.setattr("PIL.Image.Image.load", lambda *_: pytest.fail("it was decoded"))
    monkeypatch.setattr("tifffile.TiffFile.asarray", lambda *_, **__: pytest.fail("it was decoded"))
    monkeypatch.setattr(safety_limits, "check_h5ad", lambda _: None)
    words = ["import", str(tmp_path / "in.h5ad"), "-o", str(tmp_path / "o.zarr"), "--pixel-size", "1"]
    sentence = refused(capsys, monkeypatch, [*words, "--image", str(tmp_path / f"he.{ending}")])
    assert f"he.{ending}' declares {takes} GB" in sentence
    assert not (tmp_path / "o.zarr").exists()


def test_shapes_larger_than_memory_are_refused(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(slide / "images")
    shutil.rmtree(slide / "tables")
    (slide / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    monkeypatch.setattr(safety_limits, "memory_limit", lambda: 1999)
    with pytest.raises(InputError, match="'shapes/spots' declares"):
        safety_limits.check_store(slide)


@pytest.mark.contract(
    section="Stores",
    case="metadata too long or nested too deep",
    response="restore the slide from a copy",
)
def test_oversized_or_deep_metadata_is_refused(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["upsample", str(slide), "-o", str(tmp_path / "o.csv"), "--method", "uniform"]
    (slide / "zarr.json").write_text("[" * 100_000)
    assert "cannot be read as a SpatialData store" in refused(capsys, monkeypatch, words)
    monkeypatch.setattr(safety_limits, "MAX_METADATA_BYTES", 99_999)
    assert "MB of metadata" in refused(capsys, monkeypatch, words)
    assert not (tmp_path / "o.csv").exists()


def test_store_with_a_link_cycle_terminates(slide: Path) -> None:
    (slide / "images" / "again").symlink_to(slide, target_is_directory=True)
    assert read_slide(slide).n_spots == 20


def test_h5ad_larger_than_memory_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.h5ad"
    anndata.AnnData(np.ones((4, 2), np.float32), obsm={"spatial": np.eye(4, 2)}).write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["X"]
        file.create_dataset("X", shape=(10**6, 10**6), chunks=(1000, 1000), dtype="f4")
    assert path.stat().st_size < 200_000
    words = ["import", str(path), "-o", str(tmp_path / "o.zarr")]
    assert "declares 4000 GB" in refused(capsys, monkeypatch, words)
    assert [file.name for file in tmp_path.iterdir()] == ["bomb.h5ad"]
    with pytest.raises(InputError, match="declares 4000 GB"):
        read_result(path)


@pytest.mark.parametrize("how", ["link", "raw", "virtual"])
def test_h5ad_with_external_links_is_refused(how: str, tmp_path: Path) -> None:
    path, other = tmp_path / "in.h5ad", tmp_path / "secret"
    other.write_bytes(b"\1" * 64)
    anndata.AnnData(np.ones((4, 4), np.float32), obsm={"spatial": np.eye(4, 2)}).write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["X"]
        if how == "link":
            file["X"] = h5py.ExternalLink(str(other), "/X")
        elif how == "raw":
            file.create_dataset("X", shape=(4, 4), dtype="f4", external=[(str(other), 0, 64)])
        else:
            layout = h5py.VirtualLayout(shape=(4, 4), dtype="f4")
            layout[:] = h5py.VirtualSource(str(other), "X", shape=(4, 4))
            file.create_virtual_dataset("X", layout)
    with pytest.raises(InputError, match="from another file"):
        import_slide(path, tmp_path / "o.zarr")


@pytest.mark.contract(
    section="Requests",
    case="list of genes that is endless or no text",
    response="cannot be read",
)
def test_endless_gene_list_or_region_is_refused(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("this system has no endless file")
    words = ["upsample", str(slide), "-o", str(tmp_path / "o.csv"), "--method", "uniform"]
    assert "too long" in refused(capsys, monkeypatch, [*words, "--genes", "@/dev/zero"])
    assert "too long" in refused(capsys, monkeypatch, [*words, "--region", "/dev/zero"])


# --------------------------------------------------------------------- code


def _pickled_array(mark: Path, place: str) -> tuple[dict[str, Any], bytes]:
    node: dict[str, Any] = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "order": "C"}
    node |= {"fill_value": "", "compressor": None, "filters": [{"id": "vlen-utf8"}]}
    if place == "compressor":
        node["compressor"] = {"id": "pickle", "protocol": 5}
    else:
        node["filters"] += [{"id": "pickle", "protocol": 5}]
    return node, pickle.dumps(Bomb(mark))


@pytest.mark.contract(
    section="Stores",
    case="pickled chunks",
    response="holds pickled objects, which could run any program",
)
@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_pickled_chunks_are_never_loaded(
    place: str, make_slide: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds even if numcodecs is configured to unpickle, which is the default of its older versions."""
    import numcodecs.pickles

    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    mark, path = tmp_path / "mark", tmp_path / "old.zarr"
    node, chunk = _pickled_array(mark, place)
    for group in ("", "tables", "tables/table", "tables/table/X"):
        (path / group).mkdir()
        (path / group / ".zgroup").write_text('{"zarr_format": 2}')
    array = path / "tables" / "table" / "X" / "data"
    array.mkdir()
    (array / ".zarray").write_text(json.dumps(node))
    (array / "0").write_bytes(chunk)
    sentence = refused(capsys, monkeypatch, ["upsample", str(path), "-o", str(tmp_path / "o.csv")])
    assert "'tables/table/X/data' of the store holds pickled objects" in sentence
    assert not mark.exists()


def test_pickle_in_root_metadata_or_shard_is_refused(slide: Path) -> None:
    inner = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}
    key = "tables/table/X/data"
    edit(slide / "zarr.json", lambda r: r["consolidated_metadata"]["metadata"][key].update(codecs=[inner]))
    with pytest.raises(InputError, match="pickled objects"):
        read_slide(slide)


def test_objects_in_h5ad_are_never_loaded(tmp_path: Path) -> None:
    path, mark = tmp_path / "in.h5ad", tmp_path / "mark"
    table = anndata.AnnData(np.ones((4, 2), np.float32), obsm={"spatial": np.eye(4, 2)})
    table.write_h5ad(path)
    with h5py.File(path, "a") as file:
        payload = np.void(pickle.dumps(Bomb(mark)))
        file["uns"].create_dataset("payload", data=payload)
        del file["X"]
        file.create_dataset("X", data=np.frombuffer(pickle.dumps(Bomb(mark)), "u1"))
    with pytest.raises(InputError):
        import_slide(path, tmp_path / "o.zarr")
    assert not mark.exists()


@pytest.mark.contract(
    section="Models",
    case="pickled model",
    response="is not a readable safetensors file",
)
@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model.pkl", "model.npz"])
def test_pickled_checkpoint_is_never_loaded(
    name: str, slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, path = tmp_path / "mark", tmp_path / name
    torch.save({"weights": Bomb(mark)}, path) if name != "model.pkl" else path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ModelError, match="not a readable safetensors"):
        load_checkpoint(path)
    words = ["upsample", str(slide), "-o", str(tmp_path / "o.csv"), "--model", str(path)]
    assert "not a readable safetensors" in refused(capsys, monkeypatch, words)
    assert refused(capsys, monkeypatch, ["info", str(path)])
    assert not mark.exists()


@functools.cache
def _calls() -> list[tuple[str, int, str, ast.Call]]:
    """Every call in the package: file, line, its name as written, and itself."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                found.append((str(path.relative_to(ROOT)), node.lineno, ast.unparse(node.func), node))
    return found


def test_package_never_unpickles_or_evaluates_text() -> None:
    """One file is an exception: it opens only files signed by the same user (training/test_signed_cache.py)."""
    forbidden = re.compile(r"(pickle|dill|joblib|marshal|shelve)\.\w+|eval|exec|os\.system|os\.popen|__import__")
    found = [call[:3] for call in _calls() if forbidden.fullmatch(call[2])]
    assert {file for file, _, _ in found} <= {str(Path("training", "signed_cache.py"))}, found


def test_torch_and_numpy_load_without_pickle() -> None:
    for file, line, name, call in _calls():
        options = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name == "torch.load":
            assert options.get("weights_only") == "True", f"{file}:{line}"
        if name in ("np.load", "numpy.load"):
            assert options.get("allow_pickle", "False") == "False", f"{file}:{line}"
        assert options.get("shell", "False") == "False", f"{file}:{line}"


def test_package_opens_no_network_connection() -> None:
    """No telemetry and no downloads: the model ships with the package."""
    network = {"urllib", "http", "requests", "socket", "ftplib", "httpx", "aiohttp", "fsspec", "smtplib", "pooch"}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not network & {name.partition(".")[0] for name in names}, path
    assert "http://" not in "".join(path.read_text() for path in ROOT.rglob("*.py"))


# -------------------------------------------------------------------- paths


@pytest.mark.parametrize("run", ["../../escape", "..", "\x00 Ω"])
def test_run_name_cannot_leave_the_folder(run: str, make_slide: Any, tmp_path: Path) -> None:
    import dataclasses

    result = dataclasses.replace(upsample(make_slide(3, 3), method="uniform"), run=run)
    (tmp_path / "in").mkdir()
    write_result(result, tmp_path / "in" / "out.zarr", include_image=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    elements = [path.name for path in (tmp_path / "in" / "out.zarr" / "tables").iterdir() if path.is_dir()]
    assert all(re.fullmatch(r"srast_[A-Za-z0-9_.-]*_table", name) for name in elements)


def test_element_name_cannot_leave_the_store(slide: Path, tmp_path: Path) -> None:
    root = json.loads((slide / "zarr.json").read_text())
    names = root["consolidated_metadata"]["metadata"]
    names["tables/../../outside"] = names["tables/table"]
    (slide / "zarr.json").write_text(json.dumps(root))
    shutil.copytree(slide / "tables" / "table", tmp_path / "outside")
    with contextlib.suppress(InputError):
        assert "outside" not in str(read_slide(slide).source)


def test_image_name_cannot_leave_the_store(tmp_path: Path) -> None:
    from PIL import Image

    table = anndata.AnnData(np.ones((20, 2), np.float32), obsm={"spatial": CENTERS})
    table.write_h5ad(tmp_path / "in.h5ad")
    picture = tmp_path / "..-%2e%2e .. \\ evil.png"
    Image.fromarray(np.zeros((400, 500), np.uint8)).save(picture)
    path = import_slide(tmp_path / "in.h5ad", tmp_path / "o.zarr", image=picture, pixel_size=1.0)
    (name,) = [file.name for file in (path / "images").iterdir() if file.is_dir()]
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", name)
    assert not name.startswith(".")


# ----------------------------------------------------------------- promises


def test_security_policy_states_the_limits() -> None:
    project = ROOT.parents[1]
    if not (project / "pyproject.toml").exists():
        pytest.skip("not run from a checkout")
    text = (project / "SECURITY.md").read_text() + (project / "docs" / "reliability.md").read_text()
    for limit in ("10¹² values", "10⁷ chunks", "500 MB"):
        assert limit in text, limit
    assert (safety_limits.MAX_IMAGE_VALUES, safety_limits.MAX_CHUNKS, safety_limits.MAX_METADATA_BYTES) == (
        10**12,
        10**7,
        500_000_000,
    )
    rules = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["select"]
    assert "S" in rules
