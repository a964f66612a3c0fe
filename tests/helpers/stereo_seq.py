"""A small output folder of the Stereo-seq pipeline SAW, with the files that ``spatialdata_io.stereoseq`` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import tifffile

__all__ = ["StereoSeq", "write_stereo_seq"]

GENES = ("GeneA", "GeneB", "GeneC")
_CORNERS = np.array([[-4, -4], [4, -4], [4, 4], [-4, 4]], dtype=np.int16)
_PADDING = 32767


@dataclass(frozen=True, eq=False)
class StereoSeq:
    """What the folder holds: places (x, y) and counts of cells, and of bins by their size."""

    cells: np.ndarray
    cell_counts: np.ndarray
    bins: dict[int, np.ndarray]
    bin_counts: dict[int, np.ndarray]


def write_stereo_seq(folder: Path, sizes: tuple[int, ...] = (20, 50), seed: int = 0) -> StereoSeq:
    """Write a folder with 30 cells and 6 x 6 bins of each size, and return what it holds."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(10_000, 30, replace=False)
    places = np.column_stack([cells % 100, cells // 100]) * 10
    counts = rng.poisson(3, (30, len(GENES))) + 1
    for name in ("02.count", "03.register", "04.tissuecut", "041.cellcut", "051.cellcluster"):
        (folder / name).mkdir(parents=True)
    (folder / "02.count" / "chip.gef").write_bytes(b"")
    tifffile.imwrite(folder / "03.register" / "chip_regist.tif", np.zeros((1, 60, 60), dtype=np.uint8))
    table = anndata.AnnData(
        counts.astype(np.float32),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(30)]),
        var=pd.DataFrame(index=list(GENES)),
    )
    table.write_h5ad(folder / "051.cellcluster" / "chip.cell.cluster.h5ad")
    with h5py.File(folder / "041.cellcut" / "chip.cellbin.gef", "w") as file:
        _write_cells(file.create_group("cellBin"), places, counts)
    row, col = (a.ravel() for a in np.mgrid[:6, :6])
    bins = {size: np.column_stack([col, row]) * size for size in sizes}
    bin_counts = {size: rng.poisson(3, (36, len(GENES))) + 1 for size in sizes}
    with h5py.File(folder / "04.tissuecut" / "chip.tissuecut.gef", "w") as file:
        for size in sizes:
            _write_bins(file.create_group(f"geneExp/bin{size}"), size, bins[size], bin_counts[size])
    return StereoSeq(places, counts, bins, bin_counts)


def _records(**columns: Any) -> np.ndarray:
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    length = max(len(values) for values in arrays.values() if values.ndim)
    records = np.zeros(length, dtype=[(name, values.dtype) for name, values in arrays.items()])
    for name, values in arrays.items():
        records[name] = values
    return records


def _write_cells(group: h5py.Group, places: np.ndarray, counts: np.ndarray) -> None:
    n_cells, n_genes = counts.shape
    n_entries = counts.size
    group["cell"] = _records(
        id=np.arange(n_cells),
        x=places[:, 0],
        y=places[:, 1],
        offset=np.arange(n_cells) * n_genes,
        geneCount=np.full(n_cells, n_genes),
        expCount=counts.sum(axis=1),
        dnbCount=np.ones(n_cells, dtype=int),
        area=np.full(n_cells, 64),
        cellTypeID=np.zeros(n_cells, dtype=int),
        clusterID=np.zeros(n_cells, dtype=int),
    )
    group["gene"] = _records(
        geneName=np.array(GENES, dtype="S16"),
        offset=np.arange(n_genes) * n_cells,
        cellCount=np.full(n_genes, n_cells),
        expCount=counts.sum(axis=0),
        maxMIDcount=counts.max(axis=0),
    )
    group["cellExon"], group["geneExon"] = np.zeros(n_cells, dtype=int), np.zeros(n_genes, dtype=int)
    group["cellExp"] = _records(geneID=np.tile(np.arange(n_genes), n_cells), count=counts.ravel())
    group["geneExp"] = _records(cellID=np.tile(np.arange(n_cells), n_genes), count=counts.T.ravel())
    group["cellExpExon"], group["geneExpExon"] = np.zeros(n_entries, dtype=int), np.zeros(n_entries, dtype=int)
    group["blockIndex"], group["blockSize"] = np.arange(2), np.array([256, 256, 1, 1])
    group["cellTypeList"] = np.array([b"default"], dtype="S8")
    border = np.full((n_cells, 32, 2), _PADDING, dtype=np.int16)
    border[:, : len(_CORNERS)] = _CORNERS
    group["cellBorder"] = border


def _write_bins(group: h5py.Group, size: int, places: np.ndarray, counts: np.ndarray) -> None:
    n_bins = len(places)
    per_gene = np.full(len(GENES), n_bins)
    group["gene"] = _records(gene=np.array(GENES, dtype="S16"), offset=np.arange(len(GENES)) * n_bins, count=per_gene)
    expression = _records(
        x=np.tile(places[:, 0], len(GENES)), y=np.tile(places[:, 1], len(GENES)), count=counts.T.ravel()
    )
    group["expression"] = expression
    group["expression"].attrs["resolution"] = np.uint32(size)
