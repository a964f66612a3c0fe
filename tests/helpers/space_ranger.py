"""Small folders after the documented layouts of Space Ranger 1 to 4, Visium HD and ``spaceranger aggr``."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse
from scipy.io import mmwrite

__all__ = ["Capture", "capture_area", "write_aggregate", "write_factors", "write_h5", "write_images", "write_mtx"]
__all__ += ["write_positions", "write_visium", "write_visium_hd"]

COLUMNS = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
GENES = np.array(["GeneA", "GeneB", "GeneC"], dtype=object)
_BASES = np.array(list("ACGT"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Capture:
    """What a folder holds: all positions of an array, and counts of those under the tissue.

    Parameters
    ----------
    positions
        Table of positions with the columns of Space Ranger.
    counts
        Counts of all positions, shape (P, G).
    um_per_px
        Side of a full-resolution pixel in micrometers.
    bin_um
        Bin size; None for Visium.
    """

    positions: pd.DataFrame
    counts: np.ndarray
    um_per_px: float
    bin_um: int | None = None

    @property
    def tissue(self) -> np.ndarray:
        """Whether a position is under the tissue, shape (P,)."""
        return self.positions["in_tissue"].to_numpy() == 1

    @property
    def barcodes(self) -> np.ndarray:
        """Barcodes of all positions, shape (P,)."""
        return self.positions["barcode"].to_numpy(dtype=object)

    @property
    def centers_um(self) -> np.ndarray:
        """Centers (x, y) of the positions under the tissue in micrometers."""
        pixels = self.positions.loc[self.tissue, COLUMNS[:3:-1]].to_numpy(dtype=float)
        return pixels * self.um_per_px

    @property
    def expected(self) -> np.ndarray:
        """Counts of the positions under the tissue."""
        return self.counts[self.tissue]


def capture_area(
    rows: int = 8,
    cols: int = 16,
    *,
    um_per_px: float = 2.5,
    bin_um: int | None = None,
    angle: float = 0.0,
    tissue: Sequence[int] | None = None,
    seed: int = 0,
    suffix: str = "-1",
) -> Capture:
    """Return a Visium array, or square bins.

    Parameters
    ----------
    rows, cols
        Rows and columns of the array; every second combination exists in Visium.
    um_per_px
        Side of a full-resolution pixel in micrometers.
    bin_um
        Bin size in micrometers; None for Visium.
    angle
        Rotation of the array on the image, in radians.
    tissue
        Indices of the positions under the tissue; None for all but the first row.
    seed
        Seed of counts and Visium barcodes.
    suffix
        Number of the library behind the barcodes.
    """
    rng = np.random.default_rng(seed)
    row, col = (a.ravel() for a in np.mgrid[:rows, :cols])
    if bin_um is None:
        row, col = row[(row + col) % 2 == 0], col[(row + col) % 2 == 0]
        steps = np.array([50.0, 50 * np.sqrt(3)]) / um_per_px
        letters = _BASES[(np.arange(len(row))[:, None] + 7 * seed) // 4 ** np.arange(16) % 4]
        barcodes = np.array(["".join(word) + suffix for word in letters], dtype=object)
    else:
        steps = np.array([bin_um, bin_um]) / um_per_px
        barcodes = np.array([f"s_{bin_um:03d}um_{r:05d}_{c:05d}{suffix}" for r, c in zip(row, col, strict=True)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pixels = np.column_stack([col, row]) * steps @ turn.T
    pixels += steps - pixels.min(axis=0)
    inside = row > 0 if tissue is None else np.isin(np.arange(len(row)), tissue)
    columns = [barcodes, inside.astype(int), row, col, pixels[:, 1], pixels[:, 0]]
    return Capture(
        positions=pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))),
        counts=rng.poisson(5, (len(row), len(GENES))) + np.array([1, 0, 0]),
        um_per_px=um_per_px,
        bin_um=bin_um,
    )


def write_visium(
    folder: Path,
    capture: Capture,
    *,
    version: int = 2,
    counts: Sequence[str] = ("filtered.h5",),
    factors: bool = True,
    images: bool = True,
    library: str = "",
) -> Path:
    """Write a run of Visium.

    Parameters
    ----------
    folder
        Folder of the run; the files are written to ``outs``.
    capture
        What the run holds.
    version
        Version of Space Ranger: 1 writes ``tissue_positions_list.csv`` without a header.
    counts
        Matrices to write: "filtered" and "raw" with the ending ".h5", or without for the folder.
    factors, images
        Whether to write scale factors and images.
    library
        Name of the library in the ``.h5`` file; empty for that of the folder.

    Returns
    -------
    Path
        The folder ``outs``.
    """
    outs = folder / "outs"
    (outs / "spatial").mkdir(parents=True)
    _write_matrices(outs, capture, counts, library or folder.name)
    write_positions(
        outs / "spatial" / ("tissue_positions_list.csv" if version == 1 else "tissue_positions.csv"), capture
    )
    if factors:
        write_factors(outs / "spatial" / "scalefactors_json.json", capture)
    if images:
        write_images(outs / "spatial", capture)
    return outs


def write_visium_hd(
    folder: Path, captures: Sequence[Capture], *, counts: Sequence[str] = ("filtered.h5",), feature_slice: str = ""
) -> Path:
    """Write a run of Visium HD with one folder for each bin size; returns ``outs``.

    Parameters
    ----------
    folder
        Folder of the run.
    captures
        Bins of each size.
    counts
        Matrices to write, as for :func:`write_visium`.
    feature_slice
        Name of the file ``feature_slice.h5``, which may have a prefix; empty for none.
    """
    outs = folder / "outs"
    for capture in captures:
        bins = outs / "binned_outputs" / f"square_{capture.bin_um:03d}um"
        (bins / "spatial").mkdir(parents=True)
        _write_matrices(bins, capture, counts, folder.name)
        write_positions(bins / "spatial" / "tissue_positions.parquet", capture)
        write_factors(bins / "spatial" / "scalefactors_json.json", capture)
    (outs / "spatial").mkdir()
    write_images(outs / "spatial", captures[-1])
    if feature_slice:
        with h5py.File(outs / feature_slice, "w") as file:
            file.attrs["metadata_json"] = json.dumps({"hd_layout_json": json.dumps({"file_format": "1.0"})})
    return outs


def write_aggregate(folder: Path, captures: dict[str, Capture]) -> Path:
    """Write an output of ``spaceranger aggr``; the capture at place i has barcodes that end in i + 1."""
    outs = folder / "outs"
    barcodes = np.concatenate([capture.barcodes[capture.tissue] for capture in captures.values()])
    counts = np.concatenate([capture.expected for capture in captures.values()])
    outs.mkdir(parents=True)
    write_h5(outs / "filtered_feature_bc_matrix.h5", counts, barcodes, library=list(captures))
    pd.DataFrame({"library_id": list(captures), "molecule_h5": "m.h5"}).to_csv(outs / "aggregation.csv", index=False)
    pd.concat([c.positions for c in captures.values()]).to_csv(outs / "aggr_tissue_positions.csv", index=False)
    for name, capture in captures.items():
        (outs / "spatial" / name).mkdir(parents=True)
        write_factors(outs / "spatial" / name / "scalefactors_json.json", capture)
        write_images(outs / "spatial" / name, capture)
    return outs


def write_positions(path: Path, capture: Capture) -> None:
    """Write the positions: as Parquet, or as text with a header unless the file is that of Space Ranger 1."""
    if path.suffix == ".parquet":
        capture.positions.to_parquet(path)
    else:
        capture.positions.to_csv(path, index=False, header="tissue_positions_list" not in path.name)


def write_factors(path: Path, capture: Capture) -> None:
    """Write ``scalefactors_json.json``: the images have half and a tenth of the full resolution."""
    factors: dict[str, Any] = {"tissue_hires_scalef": 0.5, "tissue_lowres_scalef": 0.1}
    factors |= {"spot_diameter_fullres": (capture.bin_um or 65.0) / capture.um_per_px}
    if capture.bin_um is not None:
        factors |= {"bin_size_um": float(capture.bin_um), "microns_per_pixel": capture.um_per_px}
    path.write_text(json.dumps(factors))


def write_images(folder: Path, capture: Capture, *, prefix: str = "", mode: Literal["RGB", "L"] = "RGB") -> None:
    """Write the two images of the folder."""
    width, height = capture.positions[COLUMNS[:3:-1]].max().to_numpy() + 20
    for name, scale in (("hires", 0.5), ("lowres", 0.1)):
        size = (max(2, int(width * scale)), max(2, int(height * scale)))
        Image.new(mode, size, "pink" if mode == "RGB" else 200).save(folder / f"{prefix}tissue_{name}_image.png")


def _write_matrices(folder: Path, capture: Capture, names: Sequence[str], library: str) -> None:
    for name in names:
        kind, _, form = name.partition(".")
        rows = capture.tissue if kind == "filtered" else np.ones(len(capture.counts), dtype=bool)
        path = folder / f"{kind}_feature_bc_matrix"
        if form == "h5":
            write_h5(path.with_suffix(".h5"), capture.counts[rows], capture.barcodes[rows], library=[library])
        else:
            path.mkdir()
            write_mtx(path, capture.counts[rows], capture.barcodes[rows])


def write_h5(path: Path, counts: Any, barcodes: Any, *, genes: Any = GENES, library: Sequence[str] = ("lib",)) -> None:
    """Write counts, shape (N, G), as the HDF5 file of Space Ranger."""
    matrix = sparse.csc_matrix(np.asarray(counts).T)
    with h5py.File(path, "w") as file:
        file.attrs["library_ids"] = np.array(library, dtype="S")
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        group["data"], group["indices"], group["indptr"] = matrix.data.astype("i4"), matrix.indices, matrix.indptr
        group["shape"] = np.array(matrix.shape, dtype="i4")
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(len(genes))], dtype="S")
        features["name"] = np.array(genes, dtype="S")
        for key, value in (("feature_type", b"Gene Expression"), ("genome", b"GRCh38")):
            features[key] = np.array([value] * len(genes))


def write_mtx(folder: Path, counts: Any, barcodes: Any, *, prefix: str = "") -> None:
    """Write counts, shape (N, G), as the compressed Matrix Market files of Space Ranger."""
    content = io.BytesIO()
    mmwrite(content, sparse.coo_matrix(np.asarray(counts).T), field="integer")
    features = "".join(f"ENSG{i:011d}\t{gene}\tGene Expression\n" for i, gene in enumerate(GENES))
    texts = {"barcodes.tsv": "".join(f"{barcode}\n" for barcode in barcodes), "features.tsv": features}
    for name, text in (*texts.items(), ("matrix.mtx", content.getvalue().decode())):
        with gzip.open(folder / f"{prefix}{name}.gz", "wt") as file:
            file.write(text)
