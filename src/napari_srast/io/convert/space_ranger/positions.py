"""Read the positions of spots or bins, in all formats of Space Ranger 1 to 4, and match them with barcodes."""

from __future__ import annotations

import codecs
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from napari_srast._utils.text import first_line
from napari_srast.errors import InputError, is_memory_error
from napari_srast.io.safety_limits import memory_limit

__all__ = ["Positions", "match_barcodes", "read_positions", "without_suffix"]

_COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
_SUFFIX = r"-\d+$"
_CORE = r"([ACGT]{14,}|S_\d+UM_\d+_\d+)"  # of a barcode: its bases, or the name of a bin
_ROW_BYTES = 128  # of one position in memory, with its barcode


@dataclass(frozen=True, kw_only=True, eq=False)
class Positions:
    """Positions of all spots or bins of an array, also of those outside the tissue.

    Parameters
    ----------
    barcodes
        Barcodes, shape (P,).
    in_tissue
        Whether a spot is under the tissue, boolean, shape (P,).
    array
        Column and row on the array, shape (P, 2).
    pixels
        Centers (x, y) in pixels of the full-resolution image, shape (P, 2).
    """

    barcodes: np.ndarray
    in_tissue: np.ndarray
    array: np.ndarray
    pixels: np.ndarray

    def take(self, rows: np.ndarray) -> Positions:
        """Return some of the positions, selected by index or mask."""
        return Positions(
            barcodes=self.barcodes[rows],
            in_tissue=self.in_tissue[rows],
            array=self.array[rows],
            pixels=self.pixels[rows],
        )


def read_positions(path: Path) -> Positions:
    """Read ``tissue_positions.csv``, ``tissue_positions_list.csv`` (no header) or ``tissue_positions.parquet``.

    Parameters
    ----------
    path
        The file; text may be compressed with gzip.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, or states two positions of one barcode.
    """
    try:
        frame = _read_parquet(path) if path.suffix.casefold() == ".parquet" else _read_text(path)
        if "barcode" not in frame and frame.index.name == "barcode":
            frame = frame.reset_index()
    except Exception as error:
        if is_memory_error(error):
            raise
        raise InputError(
            f"The positions '{path}' cannot be read ({first_line(error)}); restore the file from a copy."
        ) from error
    missing = [column for column in _COLUMNS if column not in frame]
    if missing:
        raise InputError(
            f"The positions '{path}' lack the columns {', '.join(missing)}; the columns of Space Ranger are "
            f"{', '.join(_COLUMNS)}."
        )
    frame = frame.loc[:, list(_COLUMNS)]
    if not frame["barcode"].is_unique:
        frame = frame.drop_duplicates()
    repeated = frame["barcode"].duplicated()
    if repeated.any():
        raise InputError(
            f"The positions '{path}' state several positions of {repeated.sum()} barcodes (such as "
            f"{frame['barcode'][repeated].iloc[0]}), so they are of several slides; give those of one slide."
        )
    frame = frame.assign(barcode=frame["barcode"].astype(str).str.strip())
    numbers = frame.iloc[:, 1:].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    return Positions(
        barcodes=frame["barcode"].to_numpy(dtype=object),
        in_tissue=numbers[:, 0] != 0,
        array=numbers[:, [2, 1]],
        pixels=numbers[:, [4, 3]],
    )


def _read_parquet(path: Path) -> pd.DataFrame:
    from pyarrow import parquet

    needed = parquet.read_metadata(path).num_rows * _ROW_BYTES  # a small file can declare any number of rows
    if needed > memory_limit():
        raise ValueError(f"it declares {needed / 1e9:.4g} GB, more than the memory of this machine")
    return pd.read_parquet(path)


def _read_text(path: Path) -> pd.DataFrame:
    packed = path.suffix.casefold() == ".gz"
    with gzip.open(path, "rb") if packed else path.open("rb") as start:
        encoding = "utf-16" if start.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    with gzip.open(path, "rt", encoding=encoding) if packed else path.open(encoding=encoding) as file:
        first = file.readline()
    separator = max(",\t;", key=first.count)
    decimal = "." if separator == "," else ","  # as spreadsheet programs write them where a comma starts the decimals
    if "barcode" in first.casefold() or "in_tissue" in first.casefold():
        frame = pd.read_csv(path, sep=separator, decimal=decimal, skipinitialspace=True, encoding=encoding)
        frame = frame.rename(columns=lambda name: str(name).strip().casefold())
        if "barcode" in frame:
            return frame
        if not isinstance(frame.index, pd.RangeIndex):  # the header lacks the name of the first column
            return frame.rename_axis("barcode").reset_index()
        first_column = str(frame.columns[0])
        named = first_column.startswith("unnamed") or first_column == "barcodes"
        return frame.rename(columns={first_column: "barcode"}) if named else frame
    frame = pd.read_csv(path, sep=separator, decimal=decimal, header=None, skipinitialspace=True, encoding=encoding)
    if frame.shape[1] != len(_COLUMNS):
        raise ValueError(f"{frame.shape[1]} columns without a header instead of {len(_COLUMNS)}")
    return frame.set_axis(list(_COLUMNS), axis=1)


def without_suffix(barcodes: np.ndarray) -> np.ndarray:
    """Return barcodes without the number of their library, such as "-1"."""
    return pd.Series(barcodes, dtype=str).str.replace(_SUFFIX, "", regex=True).to_numpy(dtype=object)


def match_barcodes(barcodes: np.ndarray, positions: Positions) -> np.ndarray:
    """Return the index of the position of each barcode, -1 if it has none, shape (N,).

    The numbers after barcodes ("-1") are compared unless they are the reason why nothing matches, and so is the name
    of the sample before or after them.

    Parameters
    ----------
    barcodes
        Barcodes of one library, shape (N,).
    positions
        The positions.
    """
    exact = pd.Index(positions.barcodes).get_indexer(barcodes)
    if (exact >= 0).any():
        return exact
    for part in (without_suffix, _core):
        known, wanted = pd.Index(part(positions.barcodes)), pd.Index(part(barcodes))
        if known.is_unique and wanted.is_unique and known.isin(wanted).any():
            return known.get_indexer(wanted)
    return exact


def _core(barcodes: np.ndarray) -> np.ndarray:
    """Return barcodes without what programs put before and after them, such as the name of the sample, in capitals."""
    capitals = pd.Series(barcodes, dtype=str).str.upper()
    return capitals.str.extract(_CORE, expand=False).fillna(capitals).to_numpy(dtype=object)
