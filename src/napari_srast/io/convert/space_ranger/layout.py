"""Find the files of a Space Ranger run, as they are written, renamed, moved or deposited.

The layouts, of which only counts and positions are required::

    outs/                                   Visium, Space Ranger 1 to 4
      filtered_feature_bc_matrix.h5         or the folder filtered_feature_bc_matrix, or the raw matrix
      spatial/tissue_positions.csv          tissue_positions_list.csv in Space Ranger 1
      spatial/scalefactors_json.json, tissue_hires_image.png, tissue_lowres_image.png
    outs/binned_outputs/square_008um/       Visium HD: the same for each bin size, with tissue_positions.parquet
    outs/                                   spaceranger aggr: one matrix, whose barcodes end in the number of a library
      aggregation.csv, aggr_tissue_positions.csv
      spatial/LIBRARY/scalefactors_json.json, ...
    GSM1_filtered_feature_bc_matrix.h5, GSM1_tissue_positions_list.csv.gz, ...        flat folders with prefixes
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_srast.errors import ChoiceError, InputError, SettingsError

__all__ = ["CountsFile", "SpaceRangerFiles", "find_files", "is_space_ranger", "library_files"]

_DEFAULT_BIN_UM = 8  # which 10x Genomics recommends
_PARTS = {
    "counts": re.compile(r"(.*?)(?:(filtered|raw)_)?feature_bc_matrix\.h5", re.IGNORECASE),
    "matrix": re.compile(r"(.*?)()matrix\.mtx(?:\.gz)?", re.IGNORECASE),
    "positions": re.compile(
        r"(.*?)()(?:aggr_)?tissue_positions(?:_list)?\.(?:parquet|(?:csv|tsv|txt)(?:\.gz)?)", re.IGNORECASE
    ),
    "factors": re.compile(r"(.*?)()scalefactors_json\.json(?:\.gz)?", re.IGNORECASE),
    "hires": re.compile(r"(.*?)()tissue_hires_image\.(?:png|jpe?g|tiff?)(?:\.gz)?", re.IGNORECASE),
    "lowres": re.compile(r"(.*?)()tissue_lowres_image\.(?:png|jpe?g|tiff?)(?:\.gz)?", re.IGNORECASE),
    "aggregation": re.compile(r"(.*?)()aggregation\.csv(?:\.gz)?", re.IGNORECASE),
}
_SUBFOLDER = re.compile(r"(.*?)(?:spatial|(?:(filtered|raw)_)?feature_bc_matrix)", re.IGNORECASE)
_BIN_FOLDER = re.compile(r"(?:.*[_.-])?square_(\d+)um", re.IGNORECASE)
_ARCHIVE = re.compile(r".*\.(?:tar|tgz|zip|rar|7z|h5\.gz|tar\.\w+)", re.IGNORECASE)
_COUNTS = ("counts", "matrix")
_ORDER = {"filtered": 0, "": 1, "raw": 2}
_STORE_FILES = ("zarr.json", ".zgroup", ".zattrs")
_MAX_NAMED = 5
_EXPECTED_COUNTS = (
    "counts (expected: filtered_feature_bc_matrix.h5, or a folder filtered_feature_bc_matrix with matrix.mtx.gz, "
    "barcodes.tsv.gz and features.tsv.gz, or raw_feature_bc_matrix in either form)"
)
_EXPECTED_POSITIONS = (
    "positions of the spots (expected: spatial/tissue_positions.csv, tissue_positions_list.csv of Space Ranger 1, or "
    "tissue_positions.parquet of Visium HD)"
)
_LAYOUTS = (
    "give Space Ranger's folder 'outs', a bin folder such as 'square_008um', or a folder with these files under a "
    "common prefix"
)


@dataclass(frozen=True, kw_only=True)
class CountsFile:
    """File with a matrix of counts.

    Parameters
    ----------
    path
        The ``.h5`` file, or the ``matrix.mtx`` next to its barcodes and features.
    prefix
        Prefix of the names of the barcodes and features of a ``matrix.mtx``.
    """

    path: Path
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class SpaceRangerFiles:
    """Files of one slide.

    Parameters
    ----------
    folder
        Folder of the run or of the bins.
    sample
        Prefix of the file names; empty if they have none.
    counts
        Matrices of counts, the preferred one first.
    positions
        Files with the positions of the spots, the preferred one first.
    factors
        File with the scale factors; None if there is none.
    images
        Image files by resolution, "hires" and "lowres".
    aggregation
        Table of the libraries that ``spaceranger aggr`` combined; None if there is none.
    bin_um
        Bin size in the name of the folder, in micrometers; None if it has none.
    notices
        Choices that were made, one sentence each.
    """

    folder: Path
    sample: str
    counts: tuple[CountsFile, ...]
    positions: tuple[Path, ...]
    factors: Path | None
    images: dict[str, Path]
    aggregation: Path | None
    bin_um: int | None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A known file: what it is, the prefixes of its own name and with that of its folder, and its preference."""

    role: str
    path: Path
    prefix: str
    sample: str
    rank: tuple[int, ...] = ()


def is_space_ranger(path: Path) -> bool:
    """Return whether a folder has files of Space Ranger: a run, its ``outs``, bins, or files with prefixes."""
    if not path.is_dir() or any((path / name).exists() for name in _STORE_FILES):
        return False
    root = _root(path)
    if any((root / name).is_dir() for name in ("spatial", "binned_outputs")) or _bin_folders(root):
        return True
    return any(part.role in ("counts", "positions") for part in _parts(root))


def find_files(path: Path, *, library: str | None = None, bin_size: float | None = None) -> SpaceRangerFiles:
    """Find the files of one slide.

    Parameters
    ----------
    path
        The run, its folder ``outs`` or a part of it, a bin folder, a folder with prefixed files, or the ``.h5`` file of
        the counts.
    library
        Prefix that selects one of several slides in the folder; a name that is not a prefix is left to the caller.
    bin_size
        Bin size of Visium HD in micrometers; None is that of the folder, else 8, else the smallest one.

    Raises
    ------
    InputError
        Counts or positions are missing, or several slides match; the message names what was expected.
    SettingsError
        The folder has no such bins.
    """
    named = path if path.is_file() else None
    folder = _root(path.parent if named else path)
    notices: tuple[str, ...] = ()
    bins = {} if named else _bin_folders(folder)
    if bins:
        bin_um, notices = _choose_bin(bins, bin_size, path)
        folder = bins[bin_um]
    match = _BIN_FOLDER.fullmatch(folder.resolve().name)
    parts = list(_parts(folder))
    if named is not None:
        parts = [_named_counts(named), *(part for part in parts if part.role not in _COUNTS)]
    counts = {part.sample for part in parts if part.role in _COUNTS}
    positions = {part.sample for part in parts if part.role == "positions"}
    if not counts:
        raise InputError(_missing(path, folder, _EXPECTED_COUNTS))
    if not positions and not any(_has_positions(child) for child in _children(folder / "spatial")):
        raise InputError(_missing(path, folder, _EXPECTED_POSITIONS))
    sample = _choose_sample(counts, positions or counts, library, path)
    if match:  # the bins share their images, and a copied bin folder may lack them
        parts.extend(part for part in _parts(folder.resolve().parent.parent) if part.role in ("hires", "lowres"))

    def files(*roles: str) -> list[_Part]:
        return _of_sample([part for part in parts if part.role in roles], sample)

    def file(role: str) -> Path | None:
        return next((part.path for part in files(role)), None)

    images = {role: file(role) for role in ("hires", "lowres")}
    return SpaceRangerFiles(
        folder=folder,
        sample=sample,
        counts=tuple(CountsFile(path=part.path, prefix=part.prefix) for part in files(*_COUNTS)),
        positions=tuple(part.path for part in files("positions")),
        factors=file("factors"),
        images={role: image for role, image in images.items() if image is not None},
        aggregation=file("aggregation"),
        bin_um=int(match[1]) if match else None,
        notices=notices,
    )


def library_files(files: SpaceRangerFiles, library: str) -> SpaceRangerFiles:
    """Return the files of one library of ``spaceranger aggr``, with its own positions, scale factors and images.

    Parameters
    ----------
    files
        The files of all libraries.
    library
        Name of the library: that of its folder in ``spatial``.
    """
    parts = list(_files(files.folder / "spatial" / library, "", ""))
    by_role = {part.role: part.path for part in sorted(parts, key=lambda part: part.rank, reverse=True)}
    own = tuple(part.path for part in sorted(parts, key=lambda part: part.rank) if part.role == "positions")
    return dataclasses.replace(
        files,
        sample=library,
        positions=own or files.positions,
        factors=by_role.get("factors"),
        images={role: by_role[role] for role in ("hires", "lowres") if role in by_role},
    )


def _root(path: Path) -> Path:
    """Return the folder that holds the files: ``outs`` of a run, or the parent of a part such as ``spatial``."""
    if (path / "outs").is_dir():
        return path / "outs"
    absolute = path.resolve()
    if not _SUBFOLDER.fullmatch(absolute.name) or _is_complete(absolute):
        return path
    parent = path.parent if path.name == absolute.name else absolute.parent
    return parent if _is_complete(parent) or (parent / "binned_outputs").is_dir() else path


def _is_complete(folder: Path) -> bool:
    return _has_positions(folder) and any(part.role in _COUNTS for part in _parts(folder))


def _has_positions(folder: Path) -> bool:
    return any(part.role == "positions" for part in _parts(folder))


def _parts(folder: Path) -> Iterator[_Part]:
    """Yield the known files in a folder, and in its folders ``spatial`` and ``..._feature_bc_matrix``."""
    yield from _files(folder, "", "")
    for child in _children(folder):
        match = _SUBFOLDER.fullmatch(child.name)
        if match and child.is_dir():
            yield from _files(child, match[1], match[2] or "")


def _files(folder: Path, prefix: str, kind: str) -> Iterator[_Part]:
    for child in _children(folder):
        name = child.name.casefold()
        for role, pattern in _PARTS.items():
            match = pattern.fullmatch(child.name)
            if match and child.is_file():
                order = _ORDER[(match[2] or kind).casefold()]
                yield _Part(
                    role=role,
                    path=child,
                    prefix=match[1],
                    sample=(prefix + match[1]).rstrip("_-. "),
                    rank=(
                        order,
                        role == "matrix",
                        "_list" in name,
                        not name.endswith(".parquet"),
                        name.endswith(".gz"),
                    ),
                )


def _named_counts(path: Path) -> _Part:
    name = _PARTS["counts"].fullmatch(path.name)
    prefix = name[1] if name else path.stem
    return _Part(role="counts", path=path, prefix=prefix, sample=prefix.rstrip("_-. "))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if not child.name.startswith("._"))  # notes of macOS on files
    except OSError:
        return []


def _bin_folders(folder: Path) -> dict[int, Path]:
    """Return the folders of a Visium HD run by bin size, of those that have files if any has."""
    for root in (folder, folder / "binned_outputs"):
        names = ((re.fullmatch(r"square_(\d+)um", child.name), child) for child in _children(root))
        found = {int(name[1]): child for name, child in names if name and child.is_dir()}
        if found:
            return {size: bins for size, bins in found.items() if any(_parts(bins))} or found
    return {}


def _choose_bin(bins: dict[int, Path], bin_size: float | None, path: Path) -> tuple[int, tuple[str, ...]]:
    sizes = sorted(bins)
    listed = ", ".join(map(str, sizes))
    if bin_size is not None:
        if bin_size not in bins:
            raise SettingsError(f"'{path}' has no bins of {bin_size:g} um; choose one with --bin-size: {listed}.")
        return int(bin_size), ()
    chosen = _DEFAULT_BIN_UM if _DEFAULT_BIN_UM in bins else sizes[0]
    if len(sizes) == 1:
        return chosen, ()
    reason = "which 10x Genomics recommends" if chosen == _DEFAULT_BIN_UM else "the smallest ones"
    return chosen, (
        f"The folder has bins of {listed} um; those of {chosen} um were imported, {reason} (choose with --bin-size).",
    )


def _choose_sample(counts: set[str], positions: set[str], library: str | None, path: Path) -> str:
    """Return the prefix of the slide, given those of all matrices and positions."""
    if library is not None and library in counts | positions:
        return library
    if len(counts) == 1 and len(positions) == 1:
        (count_name,), (position_name,) = counts, positions
        if _related(count_name, position_name):
            return count_name or position_name
    complete = counts & positions
    if "" in complete and library is None:
        return ""
    if len(complete) == 1 and library is None:
        return next(iter(complete))
    names = sorted(complete or counts | positions - {""})
    if library is not None:
        raise InputError(f"'{path}' has no slide '{library}'; choose one with --library: {', '.join(names)}.")
    if not complete and "" not in positions:
        raise InputError(
            f"The counts in '{path}' ({_listed(counts)}) and the positions ({_listed(positions)}) have different "
            "prefixes, so they may be of different slides; rename those of one slide alike."
        )
    raise ChoiceError(
        f"'{path}' holds several slides; choose one with --library: {', '.join(names)}.", "library", names
    )


def _of_sample(parts: list[_Part], sample: str) -> list[_Part]:
    """Return the files of a slide, the preferred one first: with its prefix, else without, else with a related one."""
    samples = {part.sample for part in parts}
    related = [name for name in samples if name and _related(name, sample)]
    for name in (sample, "", *(related if len(related) == 1 else ())):
        if name in samples:
            return sorted((part for part in parts if part.sample == name), key=lambda part: part.rank)
    return []


def _related(one: str, other: str) -> bool:
    """Return whether two prefixes may be of one slide: one of them continues the other, or is missing."""
    return one.startswith(other) or other.startswith(one)


def _listed(names: Iterable[str]) -> str:
    shown = sorted(name or "no prefix" for name in names)
    return ", ".join(shown[:_MAX_NAMED]) + (", ..." if len(shown) > _MAX_NAMED else "")


def _missing(path: Path, folder: Path, what: str) -> str:
    """Return the message on a missing part, with the next step if it is visible."""
    children = _children(folder)
    packed = [child.name for child in children if _ARCHIVE.fullmatch(child.name)]
    roots = ((child.name, _root(child)) for child in children if child.is_dir())
    runs = [name for name, root in roots if _is_complete(root) or _bin_folders(root)]
    if packed:
        return f"'{path}' has no {what}; unpack {_listed(packed)} in this folder first."
    if "segmented_outputs" in (folder.name, *(child.name for child in children)):
        return f"'{path}' has no {what}; segmented cells are not imported, only the bins in binned_outputs."
    if runs:
        return f"'{path}' has no {what}; choose one of its folders: {_listed(runs)}."
    return f"'{path}' has no {what}; {_LAYOUTS}."
