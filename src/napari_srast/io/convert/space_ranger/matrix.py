"""Read the counts of Space Ranger: the HDF5 file, or the Matrix Market folder with its barcodes and features."""

from __future__ import annotations

import gzip
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast._utils.text import first_line
from napari_srast.errors import InputError, is_memory_error
from napari_srast.io.convert.space_ranger.layout import CountsFile
from napari_srast.io.safety_limits import check_h5ad, memory_limit

__all__ = ["FeatureCounts", "read_counts"]

_ENTRY_BYTES = 24  # of an entry of a Matrix Market file while it is read: row, column and value
_FEATURE_COLUMNS = ("gene_ids", "symbol", "feature_types")  # of features.tsv; genes.tsv has the first two
_H5_COLUMNS = {"id": "gene_ids", "feature_type": "feature_types", "genome": "genome"}


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureCounts:
    """Counts of features in spots.

    Parameters
    ----------
    counts
        Counts, shape (N, G).
    barcodes
        Barcodes of the spots, shape (N,).
    features
        Ids, types and genomes of the features; the index holds their names.
    libraries
        Names of the libraries, if the file states them.
    """

    counts: sparse.csr_matrix
    barcodes: np.ndarray
    features: pd.DataFrame
    libraries: tuple[str, ...] = ()


def read_counts(files: tuple[CountsFile, ...]) -> tuple[FeatureCounts, Path, tuple[str, ...]]:
    """Read the first matrix that can be read.

    Parameters
    ----------
    files
        The files, the preferred one first.

    Returns
    -------
    tuple
        The counts, their file, and a notice for each file that was passed over.

    Raises
    ------
    InputError
        No file can be read; the message names the first one.
    """
    failures: list[InputError] = []
    for file in files:
        try:
            return (
                _read(file),
                file.path,
                tuple(f"{str(e).partition(';')[0]}; another matrix was used." for e in failures),
            )
        except InputError as error:
            failures.append(error)
    raise failures[0]


def _read(file: CountsFile) -> FeatureCounts:
    try:
        found = _read_mtx(file) if ".mtx" in file.path.name.casefold() else _read_h5(file.path)
        found.counts.check_format(full_check=True)  # compiled code would read memory outside a damaged matrix
    except InputError:
        raise
    except KeyError as error:
        raise InputError(
            f"'{file.path}' has no counts of spots ({first_line(error)}); give the folder with "
            "filtered_feature_bc_matrix.h5 and 'spatial'."
        ) from error
    except Exception as error:
        if is_memory_error(error):
            raise
        raise InputError(
            f"The counts '{file.path}' cannot be read ({first_line(error)}); restore the file from a copy."
        ) from error
    return found


def _read_h5(path: Path) -> FeatureCounts:
    import h5py

    check_h5ad(path)
    with h5py.File(path, "r") as file:
        group = file["matrix"]
        n_features, n_spots = (int(length) for length in group["shape"][()])
        counts = sparse.csr_matrix(
            (group["data"][()], group["indices"][()], group["indptr"][()]), shape=(n_spots, n_features)
        )
        stored = group["features"]
        columns = {new: _text(stored[old]) for old, new in _H5_COLUMNS.items() if old in stored}
        libraries = _text(file.attrs["library_ids"]) if "library_ids" in file.attrs else np.empty(0, dtype=object)
        return FeatureCounts(
            counts=counts,
            barcodes=_text(group["barcodes"]),
            features=pd.DataFrame(columns, index=pd.Index(_text(stored["name"]))),
            libraries=tuple(libraries),
        )


def _text(values: Any) -> np.ndarray:
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in np.atleast_1d(values[()])], dtype=object)


def _read_mtx(file: CountsFile) -> FeatureCounts:
    from scipy.io import mmread

    barcodes = _read_table(file, ("barcodes.tsv",)).iloc[:, 0]
    features = _read_table(file, ("features.tsv", "genes.tsv"))
    _check_entries(file.path)
    # SciPy 1.18 warns without this argument, which versions before 1.15 do not have.
    options = {"spmatrix": True} if "spmatrix" in inspect.signature(mmread).parameters else {}
    matrix = mmread(file.path, **options)
    if matrix.shape == (len(features), len(barcodes)):
        matrix = matrix.T
    elif matrix.shape != (len(barcodes), len(features)):
        raise InputError(
            f"The counts '{file.path}' have {matrix.shape[0]} rows and {matrix.shape[1]} columns, but there are "
            f"{len(features)} features and {len(barcodes)} barcodes; put together the three files of one matrix."
        )
    columns = dict(
        zip(_FEATURE_COLUMNS, (features[column].to_numpy(dtype=object) for column in features), strict=False)
    )
    names = columns.pop("symbol", columns["gene_ids"])
    return FeatureCounts(
        counts=sparse.csr_matrix(matrix),
        barcodes=barcodes.to_numpy(dtype=object),
        features=pd.DataFrame(columns, index=pd.Index(names)),
    )


def _read_table(file: CountsFile, names: tuple[str, ...]) -> pd.DataFrame:
    stored = {path.name.casefold(): path for path in file.path.parent.iterdir() if path.is_file()}
    for name in names:
        for ending in (name, f"{name}.gz"):
            path = stored.get((file.prefix + ending).casefold())
            if path is not None:
                table = pd.read_csv(path, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
                return table.apply(lambda column: column.str.strip())
    raise InputError(
        f"'{file.path}' lacks its {names[0].partition('.')[0]}; put {file.prefix}{names[0]}.gz into the same folder."
    )


def _check_entries(path: Path) -> None:
    """Refuse a matrix that declares more entries than fit in memory."""
    with gzip.open(path, "rb") if path.suffix.casefold() == ".gz" else path.open("rb") as file:
        line = file.readline(10_000)
        while line.startswith(b"%"):
            line = file.readline(10_000)
    if not line.strip():
        raise ValueError("the line with its size is missing")
    needed = int(line.split()[-1]) * _ENTRY_BYTES
    if needed > memory_limit():
        raise InputError(
            f"The counts '{path}' declare {needed / 1e9:.4g} GB, but this machine has {memory_limit() / 1e9:.4g} GB of "
            "memory; use a smaller slide, or restore it from a copy if it should not be that large."
        )
