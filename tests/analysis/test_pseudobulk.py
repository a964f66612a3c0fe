from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from helpers.slides import make_slide

from napari_srast.analysis.pseudobulk import DonorCounts, Sample, check_donors, pseudobulk
from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.errors import Cancelled, InputError

SIDE = 8
LEFT = Region(shapely.box(-60, -60, 350, 900))
RIGHT = Region(shapely.box(351, -60, 900, 900))


def halves(*slides: Slide) -> list[Sample]:
    """Return the left and the right half of each slide as the groups of a donor."""
    return [
        Sample(slide=slide, region=region, donor=f"d{i}", group=name)
        for i, slide in enumerate(slides)
        for name, region in (("left", LEFT), ("right", RIGHT))
    ]


def wholes(*slides: Slide) -> list[Sample]:
    """Return slides of donors of their own, in two groups by turns."""
    return [Sample(slide=slide, region=None, donor=f"d{i}", group="ab"[i % 2]) for i, slide in enumerate(slides)]


def test_spots_are_summed_by_donor_and_group() -> None:
    slides = [make_slide(SIDE, SIDE, seed=seed) for seed in range(2)]
    table = pseudobulk(halves(*slides))
    assert table.obs["donor"].tolist() == ["d0", "d0", "d1", "d1"]
    assert table.obs["group"].tolist() == ["left", "right"] * 2
    assert table.obs["n_spots"].tolist() == [SIDE * SIDE // 2] * 4
    left = LEFT.spots(slides[1])
    np.testing.assert_allclose(table["d1_left"].X.ravel(), slides[1].counts[left].toarray().sum(axis=0))
    assert "Some donors are in several groups" in table.uns["note"]


def test_samples_of_the_same_donor_and_group_are_added() -> None:
    slides = [make_slide(SIDE, SIDE, seed=seed) for seed in range(6)]
    samples = [replace(one, donor=f"d{i // 2}", group="ab"[i // 2 % 2]) for i, one in enumerate(wholes(*slides))]
    last = [Sample(slide=make_slide(SIDE, SIDE, seed=7), region=None, donor="d3", group="b")]
    table = pseudobulk([*samples, *last])
    assert table.obs_names.tolist() == ["d0_a", "d1_b", "d2_a", "d3_b"]
    assert table.obs["n_spots"].tolist() == [128, 128, 128, 64]
    both = slides[0].counts.sum(axis=0) + slides[1].counts.sum(axis=0)
    np.testing.assert_allclose(table["d0_a"].X.ravel(), np.asarray(both).ravel())
    assert "several groups" not in table.uns["note"]


def test_genes_that_a_slide_lacks_are_left_out_with_a_note() -> None:
    slides = [make_slide(SIDE, SIDE, 5, seed=seed) for seed in range(4)]
    slides[1] = replace(slides[1], genes=np.array(["Gene4", "Gene3", "Gene2", "Other", "Gene0"], dtype=object))
    table = pseudobulk(wholes(*slides))
    assert table.var_names.tolist() == ["Gene0", "Gene2", "Gene3", "Gene4"]
    assert "2 genes that some slides lack are left out" in table.uns["note"]
    assert table["d1_b", "Gene4"].X.item() == slides[1].counts[:, 0].sum()
    assert table["d2_a", "Gene4"].X.item() == slides[2].counts[:, 4].sum()


def test_slides_without_a_common_gene_are_refused() -> None:
    slides = [make_slide(SIDE, SIDE, seed=seed) for seed in range(4)]
    slides[3] = replace(slides[3], genes=np.array([f"Other{i}" for i in range(5)], dtype=object))
    with pytest.raises(InputError, match="no gene in common; name the genes alike"):
        pseudobulk(wholes(*slides))


def test_groups_of_a_single_donor_are_refused() -> None:
    slide = make_slide(SIDE, SIDE)
    with pytest.raises(InputError, match=r"'left' has a single donor, 'd0'; spots of one donor are no replicates"):
        pseudobulk(halves(slide))
    with pytest.raises(InputError, match="at least two groups"):
        check_donors([("d0", "a"), ("d1", "a")])
    sums = DonorCounts()
    sums.add(halves(slide)[0])
    with pytest.raises(InputError, match="at least two groups"):
        sums.to_anndata()


def test_spots_are_not_counted_twice() -> None:
    slides = [make_slide(SIDE, SIDE, seed=seed) for seed in range(2)]
    samples = halves(*slides)
    samples[3] = replace(samples[3], region=None)
    with pytest.raises(InputError, match=r"32 spots of donor 'd1' in group 'right' would be in another sample"):
        pseudobulk(samples)


def test_equal_names_of_sums_are_refused() -> None:
    slides = [make_slide(SIDE, SIDE, seed=seed) for seed in range(4)]
    members = [("a", "b_c"), ("a_b", "c"), ("d", "b_c"), ("d", "c")]
    samples = [
        Sample(slide=slide, region=None, donor=donor, group=group)
        for slide, (donor, group) in zip(slides, members, strict=True)
    ]
    with pytest.raises(InputError, match="rename a donor or a group"):
        pseudobulk(samples)


def test_progress_is_reported_and_cancellation_stops() -> None:
    samples, steps = halves(*(make_slide(SIDE, SIDE, seed=seed) for seed in range(2))), []
    pseudobulk(samples, progress=steps.append)
    assert [(step.fraction, step.detail) for step in steps] == [(0, "d0"), (0.25, "d0"), (0.5, "d1"), (0.75, "d1")]
    with pytest.raises(Cancelled):
        pseudobulk(samples, should_stop=lambda: len(steps) > 0)
