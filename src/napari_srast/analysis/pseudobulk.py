"""Sum the measured counts of spots by donor and group: pseudo-bulk counts, for a test with donors as replicates.

Neighboring spots resemble each other, and all spots of a donor share what is particular to the donor. A difference
between groups of donors is therefore tested on one sum of counts per donor and group.

Shape legend: N spots, G genes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from napari_srast._utils.text import count
from napari_srast.arrays import SpotMask
from napari_srast.core.progress import CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.region import Region
from napari_srast.core.slide import Slide, check_is_slide
from napari_srast.errors import InputError

if TYPE_CHECKING:
    import anndata

__all__ = ["DonorCounts", "Sample", "check_donors", "pseudobulk"]

_NOTE = (
    "Measured counts are summed by donor and group; test differences between groups with PyDESeq2 or edgeR, in which "
    "each sum is a sample."
)
_PAIRED = "Some donors are in several groups; name the donor in the design of the test, too."


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A region of the slide of a donor.

    Parameters
    ----------
    slide
        The slide.
    region
        The region; None for the whole slide.
    donor
        Name of the donor (patient, animal).
    group
        Name of the group, such as "tumor" or "treated". A donor may be in several groups.
    """

    slide: Slide
    region: Region | None
    donor: str
    group: str


def check_donors(members: Iterable[tuple[str, str]]) -> None:
    """Refuse groups without replicates.

    Parameters
    ----------
    members
        Donor and group of each sample.

    Raises
    ------
    InputError
        There are fewer than two groups, or a group has a single donor.
    """
    donors: dict[str, set[str]] = {}
    for donor, group in members:
        donors.setdefault(group, set()).add(donor)
    if len(donors) < 2:
        raise InputError("Pseudo-bulk counts need at least two groups; add samples of another group.")
    for group, names in donors.items():
        if len(names) < 2:
            raise InputError(
                f"Group '{group}' has a single donor, '{next(iter(names))}'; spots of one donor are no replicates, so "
                "differences between groups cannot be tested. Add donors, or compare the regions of one slide."
            )


class DonorCounts:
    """Counts by donor and group, to which samples are added one by one.

    The slides of added samples are not kept, so that slides can be read one after the other.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], dict[str, float]] = {}
        self._n_spots: dict[tuple[str, str], int] = {}
        self._common: dict[str, None] = {}  # ordered, as the genes of the first slide
        self._all: set[str] = set()
        self._used: WeakKeyDictionary[Slide, SpotMask] = WeakKeyDictionary()

    def add(self, sample: Sample) -> None:
        """Add the counts of the spots of a sample to those of its donor and group.

        Raises
        ------
        InputError
            Spots are in another sample, too, or the slides have no gene in common.
        RegionError
            The region has no spot, or a coordinate system that the slide lacks.
        """
        slide, key = sample.slide, (sample.donor, sample.group)
        check_is_slide(slide)
        mask = np.ones(slide.n_spots, dtype=bool) if sample.region is None else sample.region.spots(slide)
        used = self._used.get(slide, np.zeros(slide.n_spots, dtype=bool))
        if (twice := int((mask & used).sum())) > 0:
            raise InputError(
                f"{count(twice, 'spot')} of donor '{sample.donor}' in group '{sample.group}' would be in another "
                "sample of the same slide, too; separate the regions."
            )
        self._used[slide] = used | mask
        genes = [str(gene) for gene in slide.genes]
        common = dict.fromkeys(genes)
        if self._n_spots:
            common = {gene: None for gene in self._common if gene in common}
        if not common:
            raise InputError("The slides have no gene in common; name the genes alike.")
        self._common = common
        self._all.update(genes)
        values = np.asarray(slide.counts[mask].sum(axis=0, dtype=np.float64)).ravel()
        sums = self._sums.get(key, {})
        self._sums[key] = {gene: sums.get(gene, 0.0) + value for gene, value in zip(genes, values, strict=True)}
        self._n_spots[key] = self._n_spots.get(key, 0) + int(mask.sum())

    def to_anndata(self) -> anndata.AnnData:
        """Return the counts as a table; see :func:`pseudobulk`.

        Raises
        ------
        InputError
            A group has fewer than two donors, there is one group only, or two sums would have the same name.
        """
        import anndata

        check_donors(self._sums)
        names = [f"{donor}_{group}" for donor, group in self._sums]
        if len(set(names)) < len(names):
            raise InputError("Two donors with their groups have the same name, such as a_b; rename a donor or a group.")
        donors, groups = zip(*self._sums, strict=True)
        obs = pd.DataFrame({"donor": donors, "group": groups, "n_spots": list(self._n_spots.values())}, index=names)
        counts = np.array([[sums[gene] for gene in self._common] for sums in self._sums.values()])
        left_out = len(self._all) - len(self._common)
        notes = [_NOTE]
        if left_out:
            notes.append(
                f"{count(left_out, 'gene')} that some slides lack {'is' if left_out == 1 else 'are'} left out."
            )
        if len(set(donors)) < len(donors):
            notes.append(_PAIRED)
        return anndata.AnnData(
            counts, obs=obs, var=pd.DataFrame(index=list(self._common)), uns={"note": " ".join(notes)}
        )


def pseudobulk(
    samples: Sequence[Sample],
    *,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> anndata.AnnData:
    """Sum the measured counts of spots by donor and group, for a test by a package such as PyDESeq2 or edgeR.

    Parameters
    ----------
    samples
        Regions with their donors and groups, of at least two groups with at least two donors each. No spot may be in
        two of them.
    progress
        Called before each sample.
    should_stop
        Returns True once the computation should end.

    Returns
    -------
    anndata.AnnData
        X: counts, a row per donor and group; genes that all slides have, in the order of the first one. obs:
        ``donor``, ``group``, ``n_spots``. ``uns["note"]`` says what to do with them, and what was left out.

    Raises
    ------
    InputError
        A group has fewer than two donors, there is one group only, the slides have no gene in common, or spots are in
        two samples.
    RegionError
        A region has no spot, or a coordinate system that its slide lacks.
    Cancelled
        ``should_stop`` returned True.

    Examples
    --------
    >>> import napari_srast as srast
    >>> table = srast.pseudobulk(samples)  # doctest: +SKIP
    >>> table.write_h5ad("donors.h5ad")  # doctest: +SKIP
    """
    check_donors((sample.donor, sample.group) for sample in samples)
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    sums = DonorCounts()
    for i, sample in enumerate(samples):
        monitor.check_canceled()
        monitor.report("sum", i, len(samples), sample.donor)
        sums.add(sample)
    return sums.to_anndata()
