"""Files that are neither slides nor models are explained."""

from __future__ import annotations

from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
from helpers.space_ranger import capture_area, write_visium
from PIL import Image

from napari_srast.cli import main
from napari_srast.errors import InputError
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.foreign_files import explain_file
from napari_srast.io.slide_reader import read_slide


@pytest.mark.contract(
    section="Requests",
    case="`info` on a file that is neither a slide nor a model: .h5, .zip, .tif, .json, .rds, unknown",
    response="what the file is, and what to do with it",
)
@pytest.mark.parametrize(
    ("name", "content", "what", "advice"),
    [
        ("slide.zip", b"PK\x03\x04", "a packed file", "unpack it"),
        ("slide.tar.gz", b"\x1f\x8b", "a packed file", "unpack it"),
        ("he.tif", b"II*\x00", "an image", "--image"),
        ("he.svs", b"II*\x00", "an image", "--image"),
        ("region.geojson", b"{}", "a region", "--region"),
        ("region.json", b"{}", "a JSON file", "--region"),
        ("slide.rds", b"\x1f\x8b", "an R object", "zellkonverter"),
        ("barcodes.tsv.gz", b"\x1f\x8b", "a table", "Space Ranger folder"),
        ("picture", b"\x89PNG", "an image", "--image"),
        ("thing.xyz", b"\x00\x01", "a file of an unknown kind", ".safetensors"),
        ("empty", b"", "a file of an unknown kind", ".safetensors"),
        ("model.pt", b"PK\x03\x04", "a file of another program", ".safetensors"),
        ("torn.h5", b"\x89HDF\r\n\x1a\n", "a damaged HDF5 file", "restore"),
        ("tissue.gef", b"\x89HDF\r\n\x1a\n", "a Stereo-seq file", "spatialdata_io.stereoseq"),
        ("slide.h5seurat", b"\x89HDF\r\n\x1a\n", "an R object", "zellkonverter"),
        ("slide.h5mu", b"\x89HDF\r\n\x1a\n", "a MuData file", "mdata['rna']"),
        ("experiment.xenium", b"{}", "a Xenium run", "spatialdata_io.xenium"),
    ],
)
def test_info_says_what_a_file_is_and_what_to_do(
    name: str, content: bytes, what: str, advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["info", str(tmp_path / name)]) == 2
    message = capsys.readouterr().err
    assert what in message
    assert advice in message
    assert "damaged model" not in message
    with pytest.raises(InputError, match=r"neither|damaged"):
        import_slide(tmp_path / name, tmp_path / "out.zarr")


@pytest.mark.contract(
    section="Stores",
    case="folder of Xenium, CosMx or MERSCOPE; folder with a store, a table or packed files in it",
    response="what it is, and what to do with it",
)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("experiment.xenium", "is a Xenium run, not a slide of spots; its molecules need no splitting"),
        ("S0_exprMat_file.csv.gz", "is a CosMx export"),
        ("detected_transcripts.csv", "is a MERSCOPE export"),
        ("A.h5ad", "import the table inside: A.h5ad"),
        ("B.zarr", "give the store inside: B.zarr"),
        ("C.tissue.gef", "with spatialdata_io.stereoseq: C.tissue.gef"),
        ("D.zip", "unpack the files inside: D.zip"),
    ],
)
def test_folders_of_other_kinds_are_explained(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"")
    for command in (["info", "{}"], ["import", "{}", "-o", str(tmp_path / "o.zarr")]):
        capsys.readouterr()
        assert main([word.format(tmp_path / "in") for word in command]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.contract(
    section="Stores",
    case="packed store (.zarr.zip), web address",
    response="what it is; unpack or download it",
)
def test_packed_stores_and_web_addresses_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "slide.zarr.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"is a packed file.*unpack it"):
        read_slide(tmp_path / "slide.zarr.zip")
    with pytest.raises(InputError, match="is a web address; download the slide"):
        read_slide("https://example.org/slide.zarr")
    assert main(["upsample", "s3://bucket/slide.zarr", "-o", str(tmp_path / "o.zarr")]) == 2
    assert "is a web address; download the slide" in capsys.readouterr().err


def test_stereo_seq_and_xenium_tables_are_named(tmp_path: Path) -> None:
    for name, group in (("cells.h5", "cellBin"), ("bins.h5", "geneExp"), ("cell_feature_matrix.h5", "matrix")):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_group(group)
    assert "a Stereo-seq file" in (explain_file(tmp_path / "cells.h5") or "")
    assert "a Stereo-seq file" in (explain_file(tmp_path / "bins.h5") or "")
    assert "the cells of a Xenium run" in (explain_file(tmp_path / "cell_feature_matrix.h5") or "")


def test_counts_without_positions_name_what_is_missing_and_with_them_are_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = write_visium(tmp_path / "run", capture_area(4, 6))
    counts = outs / "filtered_feature_bc_matrix.h5"
    assert main(["info", str(counts)]) == 2
    assert f"napari-srast import '{counts}' -o SLIDE.zarr" in capsys.readouterr().err
    assert main(["import", str(counts), "-o", str(tmp_path / "out.zarr")]) == 0
    alone = counts.rename(tmp_path / counts.name)
    assert "no positions of the spots" in (explain_file(alone) or "")
    with h5py.File(tmp_path / "molecule_info.h5", "w") as file:
        file["barcodes"] = np.arange(3)
    assert "give Space Ranger's folder 'outs'" in (explain_file(tmp_path / "molecule_info.h5") or "")
    anndata.AnnData(np.ones((2, 2))).write_h5ad(tmp_path / "table.h5")
    assert "rename it to .h5ad" in (explain_file(tmp_path / "table.h5") or "")


def test_result_is_not_taken_for_a_table(tmp_path: Path) -> None:
    anndata.AnnData(np.ones((2, 2))).write_h5ad(tmp_path / "slide.h5ad")
    assert f"napari-srast import '{tmp_path / 'slide.h5ad'}'" in (explain_file(tmp_path / "slide.h5ad") or "")
    anndata.AnnData(np.ones((2, 2)), uns={"napari_srast": {"run": "x"}}).write_h5ad(tmp_path / "result.h5ad")
    assert "is a result of napari-srast" in (explain_file(tmp_path / "result.h5ad") or "")


def test_image_is_no_slide_to_import(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "he.png")
    with pytest.raises(InputError, match="an image, neither a slide nor a model; give it with --image"):
        import_slide(tmp_path / "he.png", tmp_path / "out.zarr")


def test_missing_file_is_not_called_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path / "slide.h5")]) == 2
    assert "There is nothing at" in capsys.readouterr().err
