"""What genes share: programs and totals of a slide, also coarsened, and what they say of a gene."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.models.programs.factorization import Programs
from napari_srast.models.programs.program_fields import LEAST_SHARE, ProgramFields, fit_program_fields
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.fitting import fit_sasa


def planted() -> tuple[ProgramFields, sparse.csr_matrix]:
    """Return three programs of 40 genes, one of which nobody has, and counts of 60 spots."""
    rng = np.random.default_rng(0)
    activity = rng.dirichlet([0.4] * 3, size=60) * 500
    loading = rng.dirichlet([0.2] * 40, size=3)
    loading[:, 7] = 0
    counts = sparse.csr_matrix(rng.poisson(activity @ loading), dtype=np.float32)
    return ProgramFields.of(Programs(activity=activity, loading=loading), counts), counts


def test_fields_are_counts_by_program_and_all_of_them() -> None:
    shared, counts = planted()
    assert shared.fields.shape == (60, 4)
    np.testing.assert_allclose(shared.fields[:, :3].sum(axis=1), shared.fields[:, 3], rtol=1e-12)
    np.testing.assert_allclose(shared.fields[:, 3], np.asarray(counts.sum(axis=1)).ravel(), rtol=1e-6)


def test_a_gene_is_told_its_mixture_and_the_totals() -> None:
    shared, _ = planted()
    rng = np.random.default_rng(1)
    parent = np.repeat(np.arange(60), 4)
    layout = SpotPixelMap(spots=rng.random((60, 2)), pixels=rng.random((240, 2)), parent=parent, pitch=1.0)
    ratios = layout.normalize(rng.gamma(1.0, size=(240, 4)))
    ratios[0, 3] = 0.0
    genes = np.array([3, 7, 30])
    with np.errstate(divide="ignore"):
        told = shared.log_experts(np.log(ratios), genes, layout)
    weight = shared.programs.activity[:, :, None] * shared.programs.loading[None][:, :, genes]  # (N, P, F)
    mixed = np.einsum("qp,qpf->qf", ratios[:, :3], weight[parent])
    expected = layout.normalize(np.where(mixed.sum(axis=0) > 0, mixed, 1.0))
    np.testing.assert_allclose(np.exp(told[0]), expected, rtol=1e-9)
    np.testing.assert_allclose(told[0][:, 1], np.log(0.25))  # which no program has
    np.testing.assert_allclose(np.exp(told[1][1:]), np.repeat(ratios[1:, 3:], 3, axis=1), rtol=1e-9)
    assert told[1][0] == pytest.approx(np.log(LEAST_SHARE))


def test_programs_are_learned_from_a_slide() -> None:
    rng = np.random.default_rng(2)
    place = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), axis=-1).reshape(-1, 2)
    left = place[:, :1] < 6
    mean = np.where(left, np.r_[np.full(20, 6.0), np.full(20, 0.5)], np.r_[np.full(20, 0.5), np.full(20, 6.0)])
    counts = sparse.csr_matrix(rng.poisson(mean), dtype=np.float32)
    pool = fit_sasa(counts, place, detect_lattice(place), config=SasaConfig(epochs=10), seed=0)
    fields = fit_program_fields(counts, pool).fields[:, :-1]
    share = fields[left.ravel()].sum(axis=0) / fields.sum(axis=0)
    assert share.max() > 0.8
    assert share.min() < 0.2
