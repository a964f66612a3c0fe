"""Find the sections of a table: groups of spots whose coordinates are in frames of their own.

Tables of several sections are common, and nothing in the positions says so: two sections that overlap look like one
slide with twice as many spots. A group is a section if its spots are between those of another group, and the spots of
all groups together are not on one lattice. Where no column names the sections, the geometry of the spots does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from napari_srast.errors import ChoiceError, InputError
from napari_srast.io.array_coordinates import array_columns
from napari_srast.io.overlapping_lattices import (
    close_share,
    groups_by_order,
    has_depth,
    is_one_lattice,
    mixed_pitch,
    repeated_places,
    starts_on_lattice,
)

__all__ = ["ALL_SECTIONS", "SectionChoice", "choose_section", "section_metadata"]

ALL_SECTIONS = "all"
"""Name that keeps the spots of all sections, for sections that do share one coordinate frame."""
_SECTIONS = (  # what columns call a section or its source, in small letters; the first ones are the clearest
    *("library", "section", "sample", "origident", "slide", "slice", "capturearea", "arrayid", "chip", "puck", "image"),
    *("dataset", "batch", "specimen", "patient", "subject", "donor", "animal", "mouse", "replicate", "rep", "bregma"),
    *("z", "fov"),
)
_QUALIFIERS = (  # words next to these; with any other word, such as "type", a column is something else
    *("id", "ids", "name", "names", "label", "n", "no", "nr", "num", "number", "index", "code", "key", "tissue"),
    *("brain", "orig", "original", "unique", "source", "um", "coord", "position", "level", "plane"),
)
_SECTION_COLUMN = re.compile(f"(?:{'|'.join(_SECTIONS + _QUALIFIERS)})+")
_MAX_NAMES = 20  # sections that a message lists
_MIN_SPOTS = 3  # of a group between the spots of another one
_MIN_SHARE = 0.05  # of the spots of a group that are in the bounding box of another one
_MIN_MIXED = 0.3  # of these, those whose nearest neighbor belongs to another group
_NEARER = 0.9  # ratio of distances from which a spot of another group is nearer than one of the same group
_N_SAMPLED_NAMES = 1000  # of spots; if their parts are too many, those of all spots are
_N_NEIGHBORS = 8
_MIN_NAMED = 12  # spots with a part of their name in common
_MAX_CLOSE = 0.05  # share of the spots of a section that are too close for its lattice


@dataclass(frozen=True, eq=False)
class _Grouping:
    """Division of the spots into groups.

    Parameters
    ----------
    source
        What divides them, such as "column 'batch' of obs".
    labels
        Group of each spot, text, shape (N,).
    separate
        Whether the groups are in separate coordinate frames by convention.
    """

    source: str
    labels: np.ndarray
    separate: bool = False

    @property
    def names(self) -> list[str]:
        return [str(name) for name in pd.unique(self.labels)]


@dataclass(frozen=True, eq=False)
class SectionChoice:
    """Spots of the chosen section.

    Parameters
    ----------
    rows
        Whether each spot belongs to it, shape (N,).
    name
        Name of the section in the table; None if the table has one section, or all were chosen.
    notices
        Which part of the table was used.
    names
        Names of all sections of the table; empty if it has one.
    """

    rows: np.ndarray
    name: str | None = None
    notices: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def choose_section(
    obs: pd.DataFrame, uns: Mapping[str, Any], points: np.ndarray, library: str | None, table: str
) -> SectionChoice:
    """Select the spots of one section, and refuse spots of several sections if none was named.

    Parameters
    ----------
    obs
        Columns of the spots.
    uns
        Metadata of the table; the keys of ``uns["spatial"]`` are names of sections.
    points
        Coordinates of the spots, shape (N, 2), or (N, 3) with the third coordinate of the source.
    library
        Name of the section; "all" keeps all spots; None if the table must have one section.
    table
        Name of the table, for messages.

    Raises
    ------
    InputError
        The spots are of several sections and none was named, or the named section is missing.
    """
    keys = _spatial_keys(uns)
    pitch = mixed_pitch(points[:, :2])
    groupings = [*_groupings(obs, keys, points), *_columns_of_lattices(obs, points[:, :2], pitch)]
    rows = np.ones(len(points), dtype=bool)
    if library in (None, ALL_SECTIONS):
        found = next((g for g in groupings if _are_sections(g, points[:, :2])), None)
        if library == ALL_SECTIONS:
            return SectionChoice(rows, names=tuple(keys if found is None else found.names))
        if found is not None:
            raise ChoiceError(
                f"Table '{table}' has {len(found.names)} sections in one coordinate frame ({found.source}: "
                f"{_listed(found.names)}); choose one with --library, or --library {ALL_SECTIONS} if they are parts of "
                "one slide.",
                "library",
                (*found.names, ALL_SECTIONS),
            )
        _check_unassigned(obs, [] if _assigned_columns(obs, keys) else keys, points, pitch, table)
        return SectionChoice(rows)
    match = next((g for fold in (False, True) for g in groupings if _named(g, library, fold=fold)), None)
    if match is None and library in keys:
        return SectionChoice(rows, library, names=tuple(keys))
    if match is None:
        known = {name for g in groupings for name in g.names if g.separate or not g.source.startswith("the ")}
        choices = sorted(known | set(keys)) or [ALL_SECTIONS]
        raise InputError(f"Table '{table}' has no section '{library}'; choose one with --library: {_listed(choices)}.")
    name = _named(match, library, fold=False) or _named(match, library, fold=True)
    rows = match.labels == name
    for other in groupings:
        part = _Grouping(other.source, other.labels[rows])
        if other is not match and _are_sections(part, points[rows, :2]):
            raise InputError(
                f"Section '{name}' of table '{table}' has {len(part.names)} sections itself ({part.source}: "
                f"{_listed(part.names)}); keep one of them in the table and read it again."
            )
    notice = f"Section '{name}' was read ({match.source}): {rows.sum()} of {len(rows)} spots."
    return SectionChoice(rows, name, (notice,), tuple(dict.fromkeys([*match.names, *keys])))


def section_metadata(obs: pd.DataFrame, uns: Mapping[str, Any], section: str | None) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the content of the entry of ``uns["spatial"]`` for a section: images and scale factors.

    Parameters
    ----------
    obs
        Columns of the spots of the section.
    uns
        Metadata of the table.
    section
        Name of the section; None if the table has one.

    Returns
    -------
    tuple
        Name and content; an empty name and an empty mapping if there is no entry, or none that is certain.
    """
    keys = _spatial_keys(uns)
    if section not in keys:
        assigned = _assigned_columns(obs, keys)
        used = set(obs[assigned[0]].dropna().astype(str)) if assigned else set(keys)
        section = used.pop() if len(used) == 1 else None
    if section is None:
        return "", {}
    return section, next(content for key, content in uns["spatial"].items() if str(key) == section)


def _assigned_columns(obs: pd.DataFrame, keys: list[str]) -> list[Any]:
    """Return the columns that contain nothing but names of sections in ``uns["spatial"]``."""
    return [
        column
        for column in obs.columns
        if 0 < _n_values(obs[column].dropna()) <= len(keys) and set(obs[column].dropna().astype(str)) <= set(keys)
    ]


def _n_values(values: pd.Series) -> int:
    """Return the number of distinct values, missing ones included; 0 for values such as lists."""
    try:
        return int(values.nunique(dropna=False))
    except TypeError:
        return 0


def _spatial_keys(uns: Mapping[str, Any]) -> list[str]:
    """Return the names of sections in ``uns["spatial"]``."""
    spatial = uns.get("spatial")
    if not isinstance(spatial, Mapping):
        return []
    return [str(key) for key, content in spatial.items() if isinstance(content, Mapping)]


def _groupings(obs: pd.DataFrame, keys: list[str], points: np.ndarray) -> Iterator[_Grouping]:
    """Yield the divisions of the spots, first those that tools write on purpose."""
    by_convention = _assigned_columns(obs, keys)
    for column in by_convention:
        yield from _grouping(f"column '{column}' of obs", obs[column], separate=True)
    ranks = {column: _rank(str(column)) for column in obs.columns[~obs.columns.duplicated(keep=False)]}
    for column in sorted((c for c, rank in ranks.items() if rank < len(_SECTIONS)), key=ranks.__getitem__):
        if column not in by_convention:
            yield from _grouping(f"column '{column}' of obs", obs[column])
    if points.shape[1] > 2:
        yield from _grouping("the third coordinate", pd.Series([f"{z:.6g}" for z in points[:, 2]]))
    names = [str(name) for name in obs.index]
    sample = names[:: max(1, len(names) // _N_SAMPLED_NAMES)]
    limit = min(_MAX_NAMES, len(names) / _MIN_NAMED)  # many parts are numbers of spots or fields
    for part, of_name in (("ends", _end), ("starts", _start)):
        if len({of_name(name) for name in sample} - {None}) <= limit:
            parts = [of_name(name) for name in names]
            if len(set(parts) - {None}) <= limit:
                yield from _grouping(f"the {part} of the spot names", pd.Series(parts, dtype=object))


def _rank(column: str) -> int:
    """Return the place of a column among those that name sections: 0 if it is the clearest, the last one if none."""
    joined = re.sub(r"[\W\d_]", "", column.casefold())
    ranks = [i for i, word in enumerate(_SECTIONS) if word in joined]
    return min(ranks) if ranks and _SECTION_COLUMN.fullmatch(joined) else len(_SECTIONS)


def _columns_of_lattices(obs: pd.DataFrame, points: np.ndarray, pitch: float | None) -> Iterator[_Grouping]:
    """Yield the columns that divide overlapping lattices of a pitch into single ones, the coarsest first."""
    if pitch is None:
        return
    numbers = {column: _n_values(obs[column]) for column in obs.columns if obs.columns.tolist().count(column) == 1}
    for column in sorted((c for c, number in numbers.items() if 1 < number <= _MAX_NAMES), key=numbers.__getitem__):
        for grouping in _grouping(f"column '{column}' of obs", obs[column]):
            shares = [close_share(points[grouping.labels == name], pitch) for name in grouping.names]
            if max(shares) <= _MAX_CLOSE:
                yield grouping


def _end(name: str) -> str | None:
    """Return the last hyphen or underscore of a name with all that follows; None if the name has neither."""
    position = max(name.rfind("-"), name.rfind("_"))
    return None if position < 0 else name[position:]


def _start(name: str) -> str | None:
    """Return what is up to the first hyphen or underscore of a name, with it; None if the name has neither."""
    positions = [position for position in (name.find("-"), name.find("_")) if position >= 0]
    return name[: min(positions) + 1] if positions else None


def _grouping(source: str, values: pd.Series, *, separate: bool = False) -> Iterator[_Grouping]:
    """Yield the division by a column if it has a few groups of several spots each."""
    labels = values.astype(object).where(values.notna(), "missing").astype(str).to_numpy(dtype=object)
    if 1 < _n_values(values) <= len(labels) / _MIN_SPOTS:
        yield _Grouping(source, labels, separate)


def _named(grouping: _Grouping, library: str, *, fold: bool) -> str | None:
    """Return the group with a given name."""
    return next((n for n in grouping.names if n == library or (fold and n.casefold() == library.casefold())), None)


def _are_sections(grouping: _Grouping, points: np.ndarray) -> bool:
    """Return whether groups of spots are in frames of their own; points have shape (N, 2)."""
    codes, names = pd.factorize(grouping.labels)
    if len(names) < 2:
        return False
    return grouping.separate or (_interpenetrate(codes, points) and not is_one_lattice(points, codes))


def _interpenetrate(codes: np.ndarray, points: np.ndarray) -> bool:
    """Return whether the spots of a group are between those of another one, not next to them."""
    low, high = (
        pd.DataFrame(points).groupby(codes).agg(kind).to_numpy()[:, None] for kind in ("min", "max")
    )  # bounding boxes, shape (groups, 1, 2)
    overlap = np.all(np.minimum(high, high[:, 0]) - np.maximum(low, low[:, 0]) >= 0, axis=2)
    pairs = np.argwhere(np.triu(overlap, k=1))
    if len(pairs) == 0:
        return False
    distance, index = cKDTree(points).query(points, k=min(_N_NEIGHBORS + 1, len(points)))
    itself = index == np.arange(len(points))[:, None]
    same = codes[index] == codes[:, None]
    own = np.where(same & ~itself, distance, np.inf).min(axis=1)
    other = np.where(~same, distance, np.inf).min(axis=1)
    mixed = other < _NEARER * own
    sizes = np.bincount(codes)
    for first, second in pairs:
        box = np.maximum(low[first, 0], low[second, 0]), np.minimum(high[first, 0], high[second, 0])
        inside = np.all((points >= box[0]) & (points <= box[1]), axis=1)
        members = [inside & (codes == group) for group in (first, second)]
        if any(
            m.sum() >= max(_MIN_SPOTS, _MIN_SHARE * sizes[g]) for m, g in zip(members, (first, second), strict=True)
        ):
            both = members[0] | members[1]
            if mixed[both].mean() >= _MIN_MIXED:
                return True
    return False


def _check_unassigned(obs: pd.DataFrame, keys: list[str], points: np.ndarray, pitch: float | None, table: str) -> None:
    """Refuse spots of several sections if nothing says which spot belongs to which section."""
    flat = points[:, :2]
    if points.shape[1] > 2 and has_depth(flat, points[:, 2]):
        raise ChoiceError(
            f"The spots of table '{table}' are in a volume: their third coordinate goes from "
            f"{np.nanmin(points[:, 2]):.4g} to {np.nanmax(points[:, 2]):.4g}, also between neighbors; keep the spots "
            f"of one section in the table, or give --library {ALL_SECTIONS} to project all of them onto one plane.",
            "library",
            (ALL_SECTIONS,),
        )
    codes = groups_by_order(flat)
    if codes is not None and _interpenetrate(codes, flat):
        what = f"are on {codes.max() + 1} lattices that overlap"
    elif pitch is not None:
        what = "are on several lattices that overlap"
    else:
        number = repeated_places(flat, array_columns(obs))
        what = f"repeat places of the array: {number} of them are at the place of another one" if number else ""
    if not what and (len(keys) < 2 or starts_on_lattice(flat)):
        return
    how = (
        "add a column 'library_id' with the section of each spot and choose one with --library, or give "
        f"--library {ALL_SECTIONS} if they are parts of one slide"
    )
    if len(keys) > 1:
        raise ChoiceError(
            f"Table '{table}' has {len(keys)} sections in uns['spatial'] ({_listed(keys)}), and no column of obs says "
            f"which spot belongs to which; {how}.",
            "library",
            (ALL_SECTIONS,),
        )
    raise ChoiceError(
        f"The spots of table '{table}' {what}, as those of sections that were put into one table; {how}.",
        "library",
        (ALL_SECTIONS,),
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
