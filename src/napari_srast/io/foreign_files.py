"""Explain files and folders that are neither slides nor models: what they are, and what to do with them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from napari_srast.errors import InputError
from napari_srast.io.convert.space_ranger.layout import find_files
from napari_srast.io.file_kinds import is_anndata_file, is_result_table, store_part_problem

__all__ = ["explain_file", "explain_folder", "hdf5_problem"]

_IMPORT = "napari-srast import"
_UNPACK = "unpack it, and give the .h5ad file, the Space Ranger folder or the .zarr folder inside"
_WRITE_H5AD = "write raw counts and spot centers (obsm['spatial']) to an .h5ad file, and import that"
_ENDINGS = {  # the first one that matches counts, so a packed table is a table
    r"tiff?|btf|svs|ndpi|scn|czi|vsi|mrxs|qptiff|jpe?g|png|bmp|jp2": (
        "an image",
        f"give it with --image when importing its slide: {_IMPORT} SLIDE -o SLIDE.zarr --image {{path}}",
    ),
    r"geojson": ("a region", "give it with --region: napari-srast upsample SLIDE.zarr -o OUT.zarr --region {path}"),
    r"json": ("a JSON file", "if it is a region, give it to napari-srast upsample with --region"),
    r"rds|rdata|rda|h5seurat": (
        "an R object",
        "write it as an .h5ad file in R, for example with zellkonverter, and import that",
    ),
    r"loom": ("a loom file", f"read it with anndata.io.read_loom, {_WRITE_H5AD}"),
    r"h5mu": ("a MuData file", "write the table of its counts, mdata['rna'], to an .h5ad file, and import that"),
    r"xenium": (
        "the description of a Xenium run",
        "its molecules need no splitting: read the run with spatialdata_io.xenium, and use its bins or cells as the "
        "truth of napari-srast evaluate",
    ),
    r"gef|gem|gem\.gz": (
        "a Stereo-seq file",
        "import it with spatialdata_io.stereoseq, or write its bins as an .h5ad file with Stereopy",
    ),
    r"(?:csv|tsv|txt|mtx|parquet|xlsx?)(?:\.gz)?": (
        "a table",
        f"give the Space Ranger folder that it belongs to, or {_WRITE_H5AD}",
    ),
    r"zip|tar|tgz|tbz2?|7z|rar|gz|bz2|xz|zst": ("a packed file", _UNPACK),
    r"pt|pth|ckpt|pkl|pickle|joblib|np[yz]|onnx": (
        "a file of another program",
        "give the name of a shipped model, or a .safetensors file made by napari-srast train",
    ),
    r"py|ipynb|r|md|pdf|html?|docx?|pptx?|log|toml|ya?ml": ("a document", "give a .zarr store, or import a slide"),
}
_MAGIC = {
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gz",
    b"II*\x00": "tif",
    b"MM\x00*": "tif",
    b"II+\x00": "tif",
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpg",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"%PDF": "pdf",
}
_MOLECULES = (
    "its molecules need no splitting: read it with spatialdata_io.{reader}, and use its bins or cells as the truth of "
    "napari-srast evaluate"
)
_FOLDERS = (  # files of a folder, what it is, and what to do with it
    (r"experiment\.xenium|cell_feature_matrix\.(?:h5|zarr\.zip)|gene_panel\.json", "a Xenium run", "xenium"),
    (r".*_tx_file\.csv(?:\.gz)?|.*_exprmat_file\.csv(?:\.gz)?", "a CosMx export", "cosmx"),
    (r"detected_transcripts\.(?:csv|parquet)|cell_by_gene\.csv", "a MERSCOPE export", "merscope"),
)
_INSIDE = (  # what a folder contains that can be opened instead, and how
    (r".*\.zarr", "give the store inside: {names}"),
    (r".*\.h5ad", "import the table inside: {names}"),
    (r".*\.(?:gef|gem|gem\.gz)", "import its Stereo-seq files with spatialdata_io.stereoseq: {names}"),
    (r".*\.(?:zip|tar|tgz|tar\.gz|h5ad\.gz|h5\.gz)", "unpack the files inside: {names}"),
)
_MAX_NAMED = 3
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LENGTH_BYTES = 8  # at the beginning of a .safetensors file, followed by JSON


def explain_file(path: Path) -> str | None:
    """Return what a file is and what to do with it, in one sentence; None for a file that may be a model.

    Parameters
    ----------
    path
        An existing file.
    """
    problem = store_part_problem(path)
    if problem is not None:
        return problem
    name = path.name.casefold()
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        return f"'{path}' cannot be read ({error.strerror}); change its permissions, or restore it from a copy."
    known = [next((e for e in _ENDINGS if re.fullmatch(rf".*\.(?:{e})", name)), None)]
    is_hdf5 = start.startswith(_HDF5) or name.endswith((".h5", ".h5ad", ".hdf5"))
    if is_hdf5 and (known[0] is None or is_anndata_file(path)):
        if is_result_table(path):
            return (
                f"'{path}' is a result of napari-srast, not a slide; read it in Python with napari_srast.read_result."
            )
        return hdf5_problem(path) or (
            f"'{path}' is a table, not a SpatialData store yet; convert it with: {_IMPORT} '{path}' -o SLIDE.zarr"
        )
    if name.endswith(".safetensors") or start[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{":
        return None
    kinds = (kind for magic, kind in _MAGIC.items() if start.startswith(magic))
    known += [next(e for e in _ENDINGS if re.fullmatch(e, kind)) for kind in kinds]
    for ending in filter(None, known):
        what, advice = _ENDINGS[ending]
        return f"'{path}' is {what}, neither a slide nor a model; {advice.format(path=path)}."
    return (
        f"'{path}' is a file of an unknown kind, neither a slide nor a model; give a .zarr store or a .safetensors "
        "file, or import an .h5ad file or a Space Ranger folder."
    )


def explain_folder(path: Path) -> str | None:
    """Return what a folder is and what to do with it, in one sentence; None if nothing is known about it.

    Parameters
    ----------
    path
        An existing folder that is neither a store nor one of Space Ranger.
    """
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        return f"The folder '{path}' cannot be read ({error.strerror}); change its permissions."
    for pattern, what, reader in _FOLDERS:
        if any(re.fullmatch(pattern, name.casefold()) for name in names):
            return f"'{path}' is {what}, not a slide of spots; {_MOLECULES.format(reader=reader)}."
    for pattern, advice in _INSIDE:
        found = [name for name in names if re.fullmatch(pattern, name.casefold())]
        if found:
            listed = ", ".join(found[:_MAX_NAMED]) + (", ..." if len(found) > _MAX_NAMED else "")
            return f"'{path}' is a folder with other files, not a slide; {advice.format(names=listed)}."
    return None


def hdf5_problem(path: Path) -> str | None:
    """Return why an HDF5 file cannot be imported, and the next step; None if it can.

    Parameters
    ----------
    path
        An existing file: an ``.h5ad`` table, or the counts of Space Ranger next to their positions.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            names = set(file)
    except OSError:
        return f"'{path}' is a damaged HDF5 file; restore it from a copy."
    if "matrix" in names and path.name.casefold() == "cell_feature_matrix.h5":
        return f"'{path}' has the cells of a Xenium run, not spots; {_MOLECULES.format(reader='xenium')}."
    if names & {"geneExp", "cellBin"}:
        what, advice = _ENDINGS[r"gef|gem|gem\.gz"]
        return f"'{path}' is {what}, neither a slide nor a model; {advice}."
    if "matrix" in names:
        try:
            find_files(path)
        except InputError as error:
            return str(error)
        return None
    if {"obs", "var"} <= names:
        if path.suffix.casefold() == ".h5ad":
            return None
        return f"'{path}' is an .h5ad file under another name; rename it to .h5ad, and import it."
    return (
        f"'{path}' is an HDF5 file without counts of spots; give Space Ranger's folder 'outs', with "
        "filtered_feature_bc_matrix.h5 and 'spatial', or an .h5ad file."
    )
