"""Hypothesis strategies: valid and invalid slides as SpatialData objects, requests, and damage to stores."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import geopandas
import numpy as np
import pandas as pd
import shapely
import spatialdata
from hypothesis import reject
from hypothesis import strategies as st
from scipy import sparse
from spatialdata.models import Image2DModel, Labels2DModel, ShapesModel, TableModel
from spatialdata.transformations import Affine

_NAMES = st.one_of(
    st.sampled_from(["ERBB2", "HLA/A", "../../etc/passwd", "r", "g", "b", "a", "日本語", "µ", "a b", "", "None", "-1"]),
    st.text(min_size=0, max_size=6),
)


def _rarely(draw: st.DrawFn, one_in: int = 12) -> bool:
    """Return True rarely, so that most slides are valid in most respects and later code is reached."""
    return draw(st.integers(1, one_in)) == one_in


def _mostly(draw: st.DrawFn, valid: list[Any], unusual: list[Any], one_in: int = 12) -> Any:
    """Draw a valid value, or rarely an unusual one."""
    return draw(st.sampled_from(unusual if _rarely(draw, one_in) else valid))


def _centers(draw: st.DrawFn, rng: np.random.Generator) -> np.ndarray:
    kind = draw(
        st.sampled_from(["square", "square", "hex", "hex", "jittered", "random", "line", "one", "doubled", "lost"])
    )
    rows, cols = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    row, col = (a.ravel().astype(float) for a in np.mgrid[:rows, :cols])
    points = np.column_stack([col, row])
    if kind == "hex":
        points = np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(3) / 2])
    elif kind == "jittered":
        points += rng.normal(0, 0.1, points.shape)
    elif kind == "random":
        points = rng.uniform(0, 6, points.shape)
    elif kind == "line":
        points[:, 1] = 0
    elif kind == "one":
        points = points[:1]
    elif kind == "doubled":
        points = np.repeat(points, 2, axis=0)
    elif kind == "lost":
        points[:] = 0
    angle = draw(st.sampled_from([0.0, 0.0, 0.01, 0.5, np.pi / 2]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    pitch = _mostly(draw, [100.0, 100.0, 1.0, 0.37], [1e-6, 1e6])
    points = points @ turn * pitch + draw(st.sampled_from([0.0, 0.0, -350.0, 1e9]))
    if _rarely(draw, 30):
        points[draw(st.integers(0, len(points) - 1))] = draw(st.sampled_from([np.nan, np.inf, 1e9, -1e300]))
    return points


def _counts(draw: st.DrawFn, rng: np.random.Generator, n_spots: int, n_genes: int) -> np.ndarray:
    counts = rng.poisson(draw(st.sampled_from([0.05, 1.0, 8.0, 1e4])), (n_spots, n_genes)).astype(float)
    defect = _mostly(draw, ["", "", "huge"], ["zero", "negative", "nan", "inf", "half", "log", "vast"], 8)
    if counts.size == 0:
        return counts
    entry = (draw(st.integers(0, n_spots - 1)), draw(st.integers(0, n_genes - 1)))
    if defect == "log":
        return np.log1p(counts)
    values = {"huge": 2.0**40, "negative": -3.0, "nan": np.nan, "inf": np.inf, "half": 2.5, "vast": 1e300}
    if defect == "zero":
        counts[:] = 0
    elif defect:
        counts[entry] = values[defect]
    return counts


def _transforms(draw: st.DrawFn) -> dict[str, Affine]:
    number = st.one_of(st.sampled_from([1.0, 0.5, -1.0, 1e-6, 1e6]), st.floats(-3, 3))
    systems = {}
    for name in draw(st.lists(st.sampled_from(["global", "um", "px", "aligned"]), min_size=1, max_size=3, unique=True)):
        matrix = np.eye(3)
        if not draw(st.booleans()):
            a, b, c, d = (draw(number) for _ in range(4))
            matrix[:2] = [[a, b, draw(number)], [c, d, draw(number)]]
        if _rarely(draw, 60):
            matrix[0] = draw(st.sampled_from([0.0, np.nan]))
        systems[name] = Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))
    return systems


def _element(draw: st.DrawFn, centers: np.ndarray, ids: np.ndarray, systems: dict[str, Affine]) -> tuple[str, Any]:
    kind = draw(st.sampled_from(["circles", "circles", "circles", "squares", "labels"]))
    span = np.ptp(centers, axis=0) if np.isfinite(centers).all() else np.array([np.inf])
    if kind == "labels" and span.max() <= 2000:
        image = np.zeros((int(span[1]) + 5, int(span[0]) + 5), np.int32)
        for spot, (x, y) in zip(ids, centers - centers.min(axis=0), strict=True):
            image[int(y) : int(y) + 4, int(x) : int(x) + 4] = int(spot) if str(spot).isdigit() else 1
        return "labels", Labels2DModel.parse(image, dims=("y", "x"), transformations=systems)
    size = draw(st.sampled_from([50.0, 1.0, 1e-9, 1e9]))
    if kind == "squares":
        boxes = shapely.box(*(centers - size / 2).T, *(centers + size / 2).T)
        return "shapes", ShapesModel.parse(geopandas.GeoDataFrame(geometry=boxes, index=ids), transformations=systems)
    return "shapes", ShapesModel.parse(centers, geometry=0, radius=size / 2, index=ids, transformations=systems)


def _image(draw: st.DrawFn, rng: np.random.Generator, systems: dict[str, Affine]) -> Any:
    shape = (draw(st.sampled_from([1, 2, 3, 4, 5])), draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.float32, np.bool_]))
    scales = draw(st.sampled_from([None, [2]])) if min(shape[1:]) > 8 else None
    pixels = rng.integers(0, 2, shape).astype(dtype)
    return Image2DModel.parse(pixels, dims=("c", "y", "x"), transformations=systems, scale_factors=scales)


@st.composite
def slides(draw: st.DrawFn) -> spatialdata.SpatialData:
    """Draw a slide; most are valid in most respects, and each may be unusual in some."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    try:
        return _slide(draw, rng)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, shapely.errors.ShapelyError):
        reject()  # SpatialData cannot represent such a slide


def _slide(draw: st.DrawFn, rng: np.random.Generator) -> spatialdata.SpatialData:
    centers = _centers(draw, rng)
    n_spots, n_genes = len(centers), _mostly(draw, [1, 2, 4], [0], 30)
    counts = _counts(draw, rng, n_spots, n_genes)
    dtype = draw(st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint16, np.bool_]))
    exact = np.isfinite(counts).all() and np.array_equal(counts.astype(dtype).astype(float), counts)
    values: Any = counts.astype(dtype if exact else np.float64)
    values = draw(st.sampled_from([np.asarray, sparse.csr_matrix, sparse.csc_matrix]))(values)
    ids: np.ndarray = np.arange(n_spots) + draw(st.sampled_from([0, 1, 1000]))
    if _rarely(draw, 5):
        ids = np.array([f"id{i}" for i in ids], dtype=object)
    systems = _transforms(draw)
    kind, element = _element(draw, centers, ids, systems)
    linked = ids.copy()
    how = _mostly(draw, ["", "", "shuffled", "fewer"], ["doubled", "foreign"], 20)
    keep = np.arange(n_spots)
    if how == "shuffled":
        keep = rng.permutation(n_spots)
    elif how == "fewer":
        keep = keep[: max(1, n_spots // 2)]
    elif how == "foreign":
        linked = np.arange(n_spots) + 10**6
    elif how == "doubled":
        linked[:] = linked[0]
    genes = draw(st.lists(_NAMES, min_size=n_genes, max_size=n_genes, unique=not _rarely(draw)))
    obs = pd.DataFrame({"region": pd.Categorical(["spots"] * len(keep)), "instance_id": linked[keep]})
    obs.index = draw(st.sampled_from([[f"s{i}" for i in keep], ["same"] * len(keep), [f"x/{i}" for i in keep]]))
    table = anndata.AnnData(values[keep], obs=obs, var=pd.DataFrame(index=genes))
    if _rarely(draw, 4):
        table.layers[draw(st.sampled_from(["counts", "raw", "other"]))] = np.abs(np.nan_to_num(counts[keep]))
    if _rarely(draw):
        table.uns["napari_srast_slide"] = draw(st.sampled_from(["text", {"unit": 7}, {"notices": 3}]))  # type: ignore[arg-type]
    link = {"region": "spots", "region_key": "region", "instance_key": "instance_id"}
    parsed = TableModel.parse(table, **({} if _rarely(draw) else link))
    images = {"he": _image(draw, rng, _transforms(draw))} if draw(st.booleans()) else {}
    parts: dict[str, Any] = {"images": images, "shapes": {}, "labels": {}, "tables": {"table": parsed}}
    parts[kind]["spots"] = element
    if _rarely(draw):
        parts["shapes"]["others"] = ShapesModel.parse(np.zeros((2, 2)), geometry=0, radius=1.0)
    if _rarely(draw, 40):
        parts["tables"] = {}
    return spatialdata.SpatialData(**parts)


@dataclass(frozen=True)
class Request:
    """Settings, genes and region of a run."""

    options: dict[str, Any]
    genes: list[str] | None
    region: str | None


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Draw settings, genes and a region, valid or not; none of them large."""
    options: dict[str, Any] = {
        "method": draw(st.sampled_from(["uniform", "uniform", "bilinear", "pycnophylactic", "gp"])),
        "mode": draw(st.sampled_from(["mean", "mean", "integer"])),
        "footprint": draw(st.sampled_from(["cell", "cell", "spot"])),
        "factor": _mostly(draw, [2.0, 2.0, 3.0, 1.5, 4.7], [0.0, -1.0, 1000.0, float("nan")]),
    }
    if _rarely(draw, 8):
        options["pixel_size"] = draw(st.sampled_from([25.0, 30.0, 0.0, -5.0, 1e-9, 1e9, float("inf")]))
    genes = _mostly(draw, [None], [["ERBB2"], ["nothing"], [""], []], 6)
    corner = st.sampled_from([-50.0, 0.0, 120.0, 350.0, 1e9, 0.0, 900.0, -900.0])
    region = None
    if _rarely(draw, 5):
        corners = draw(st.lists(st.tuples(corner, corner), min_size=3, max_size=6))
        ring = ", ".join(f"{x} {y}" for x, y in [*corners, corners[0]])
        region = draw(st.sampled_from([f"POLYGON (({ring}))", f"POLYGON (({ring}), ({ring}))", "POLYGON EMPTY", ring]))
    return Request(options, genes, region)


# ---------------------------------------------------------------- damaged stores

Damage = Callable[[Path], None]
_VALUES = st.sampled_from(
    [
        None,
        -1,
        0,
        1,
        7,
        10**12,
        2**70,
        1e308,
        True,
        "",
        "x",
        "NaN",
        "<f8",
        "|O",
        "../..",
        [],
        [0],
        [-1, 2],
        {},
        {"name": "x"},
    ]
)


def _files(store: Path, suffix: str = "") -> list[Path]:
    return sorted(file for file in store.rglob(f"*{suffix}") if file.is_file() and not file.is_symlink())


def _pick(items: list[Any], where: float) -> Any:
    return items[min(int(where * len(items)), len(items) - 1)] if items else None


def _paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a JSON value."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(deeper for key, value in inner for deeper in _paths(value, (*path, key)))]


def _edit(store: Path, where: float, inside: float, value: Any, drop: bool) -> None:
    file = _pick(_files(store, "zarr.json"), where)
    if file is None:
        return
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return
    path = _pick(_paths(content)[1:], inside)
    if path is None:
        return
    node = content
    for key in path[:-1]:
        node = node[key]
    if drop:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    file.write_text(json.dumps(content))


def _cut(store: Path, where: float, share: float) -> None:
    file = _pick(_files(store), where)
    if file is not None:
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])


def _flip(store: Path, where: float, inside: float, bits: int) -> None:
    file = _pick(_files(store), where)
    if file is not None and file.stat().st_size:
        content = bytearray(file.read_bytes())
        content[min(int(inside * len(content)), len(content) - 1)] ^= bits
        file.write_bytes(bytes(content))


def _copy_over(store: Path, source: float, target: float) -> None:
    first, second = _pick(_files(store), source), _pick(_files(store), target)
    if first is not None and first != second:
        second.write_bytes(first.read_bytes())


def _remove_folder(store: Path, where: float) -> None:
    folder = _pick(sorted(path for path in store.rglob("*") if path.is_dir()), where)
    if folder is not None:
        shutil.rmtree(folder)


def _replace_by_link(store: Path, where: float, target: str) -> None:
    file = _pick(_files(store), where)
    if file is not None:
        file.unlink()
        os.symlink(target, file)


def _junk(store: Path, where: float, name: str) -> None:
    folder = _pick(sorted(path for path in [store, *store.rglob("*")] if path.is_dir()), where)
    if not (folder / name).exists():
        (folder / name).write_bytes(b"junk \xff\x00")


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, tuple[Any, ...]]]:
    """Draw one to three kinds of damage, as the name and arguments of a function of this module."""
    position = st.floats(0, 1)
    kinds = st.one_of(
        st.tuples(st.just("_edit"), st.tuples(position, position, _VALUES, st.booleans())),
        st.tuples(st.just("_edit"), st.tuples(position, position, _VALUES, st.just(False))),
        st.tuples(st.just("_cut"), st.tuples(position, st.sampled_from([0.0, 0.1, 0.5, 0.99]))),
        st.tuples(st.just("_flip"), st.tuples(position, position, st.integers(1, 255))),
        st.tuples(st.just("_copy_over"), st.tuples(position, position)),
        st.tuples(st.just("_remove_folder"), st.tuples(position)),
        st.tuples(st.just("_replace_by_link"), st.tuples(position, st.sampled_from(["nowhere", ".", "/dev/null"]))),
        st.tuples(
            st.just("_junk"), st.tuples(position, st.sampled_from(["zarr.json", ".DS_Store", "c", ".zgroup", "x"]))
        ),
    )
    return draw(st.lists(kinds, min_size=1, max_size=3))


def apply(store: Path, damage: list[tuple[str, tuple[Any, ...]]]) -> None:
    """Damage a store."""
    for name, arguments in damage:
        globals()[name](store, *arguments)
