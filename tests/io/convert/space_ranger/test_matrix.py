"""Matrices of Space Ranger: damaged, foreign and oversized ones are refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.space_ranger import capture_area, write_h5, write_mtx

from napari_srast.errors import InputError
from napari_srast.io.convert.space_ranger.layout import CountsFile
from napari_srast.io.convert.space_ranger.matrix import read_counts


@pytest.mark.parametrize("features", ["features.tsv.gz", "features.tsv", "genes.tsv"])
def test_matrix_market_of_every_version_is_read(tmp_path: Path, features: str) -> None:
    capture = capture_area(4, 6)
    write_mtx(tmp_path, capture.counts, capture.barcodes, prefix="GSM1_")
    packed = tmp_path / "GSM1_features.tsv.gz"
    if features != packed.name.removeprefix("GSM1_"):
        lines = gzip.open(packed, "rt").read().splitlines()
        columns = 2 if features == "genes.tsv" else 3
        text = "".join("\t".join(line.split("\t")[:columns]) + "\n" for line in lines)
        (tmp_path / f"GSM1_{features}").write_text(text)
        packed.unlink()
    found, _, notices = read_counts((CountsFile(path=tmp_path / "GSM1_matrix.mtx.gz", prefix="GSM1_"),))
    np.testing.assert_array_equal(found.counts.toarray(), capture.counts)
    assert list(found.features.index) == ["GeneA", "GeneB", "GeneC"]
    assert list(found.features["gene_ids"]) == [f"ENSG{i:011d}" for i in range(3)]
    assert notices == ()


def test_names_in_capitals_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    capture = capture_area(4, 6)
    write_mtx(tmp_path, capture.counts, capture.barcodes)
    for packed in list(tmp_path.iterdir()):
        text = gzip.open(packed, "rb").read().replace(b"\n", b"\r\n")
        (tmp_path / packed.name.removesuffix(".gz").upper()).write_bytes(text)
        packed.unlink()
    found, _, _ = read_counts((CountsFile(path=tmp_path / "MATRIX.MTX"),))
    np.testing.assert_array_equal(found.counts.toarray(), capture.counts)
    assert list(found.barcodes) == list(capture.barcodes)
    assert list(found.features["feature_types"]) == ["Gene Expression"] * 3


def test_incomplete_or_oversized_matrix_market_is_refused(tmp_path: Path) -> None:
    capture = capture_area(4, 6)
    write_mtx(tmp_path, capture.counts[:, :2], capture.barcodes)
    file = (CountsFile(path=tmp_path / "matrix.mtx.gz"),)
    with pytest.raises(InputError, match=r"2 rows and 12 columns, but there are 3 features and 12 barcodes"):
        read_counts(file)
    with gzip.open(tmp_path / "matrix.mtx.gz", "wt") as matrix:
        matrix.write("%%MatrixMarket matrix coordinate integer general\n3 12 10000000000000\n")
    with pytest.raises(InputError, match=r"declare 2\.4e\+05 GB"):
        read_counts(file)
    with gzip.open(tmp_path / "matrix.mtx.gz", "wt") as matrix:
        matrix.write("%%MatrixMarket matrix coordinate integer general\n")
    with pytest.raises(InputError, match="the line with its size is missing"):
        read_counts(file)
    (tmp_path / "barcodes.tsv.gz").unlink()
    with pytest.raises(InputError, match=r"lacks its barcodes; put barcodes\.tsv\.gz"):
        read_counts(file)


def test_damaged_or_foreign_h5_is_refused(tmp_path: Path) -> None:
    capture = capture_area(4, 6)
    path = tmp_path / "filtered_feature_bc_matrix.h5"
    write_h5(path, capture.counts, capture.barcodes)
    with h5py.File(path, "r+") as file:
        file["matrix/indices"][0] = 10_000  # outside the matrix
    with pytest.raises(InputError, match="cannot be read"):
        read_counts((CountsFile(path=path),))
    with h5py.File(path, "r+") as file:
        del file["matrix"]
    with pytest.raises(InputError, match="has no counts of spots"):
        read_counts((CountsFile(path=path),))
