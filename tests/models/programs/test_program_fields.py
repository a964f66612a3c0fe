"""Test the fields of a large panel, and the maps of genes that programs and totals predict."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.models.programs.factorization import ProgramFactorization
from napari_srast.models.programs.program_fields import MIN_RATIO, ProgramFields, fit_program_fields, leading_fields
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.fitting import fit_sasa


def planted() -> tuple[ProgramFields, sparse.csr_matrix]:
    """Return three programs of 40 genes, one of which has no loading, and counts of 60 spots."""
    rng = np.random.default_rng(0)
    activity = rng.dirichlet([0.4] * 3, size=60) * 500
    loading = rng.dirichlet([0.2] * 40, size=3)
    loading[:, 7] = 0
    counts = sparse.csr_matrix(rng.poisson(activity @ loading), dtype=np.float32)
    return ProgramFields.from_programs(ProgramFactorization(activity=activity, loading=loading), counts), counts


def test_fields_are_attributed_and_total_counts() -> None:
    program_fields, counts = planted()
    assert program_fields.fields.shape == (60, 4)
    np.testing.assert_allclose(program_fields.fields[:, :3].sum(axis=1), program_fields.fields[:, 3], rtol=1e-12)
    np.testing.assert_allclose(program_fields.fields[:, 3], np.asarray(counts.sum(axis=1)).ravel(), rtol=1e-6)


def test_gene_gets_program_mixture_and_totals() -> None:
    program_fields, _ = planted()
    rng = np.random.default_rng(1)
    parent = np.repeat(np.arange(60), 4)
    layout = SpotPixelMap(spots=rng.random((60, 2)), pixels=rng.random((240, 2)), parent=parent, pitch=1.0)
    ratios = layout.normalize(rng.gamma(1.0, size=(240, 4)))
    ratios[0, 3] = 0.0
    genes = np.array([3, 7, 30])
    with np.errstate(divide="ignore"):
        predicted = program_fields.expert_log_ratios(np.log(ratios), genes, layout)
    programs = program_fields.programs
    weight = programs.activity[:, :, None] * programs.loading[None][:, :, genes]  # (N, P, F)
    mixed = np.einsum("qp,qpf->qf", ratios[:, :3], weight[parent])
    expected = layout.normalize(np.where(mixed.sum(axis=0) > 0, mixed, 1.0))
    np.testing.assert_allclose(np.exp(predicted[0]), expected, rtol=1e-9)
    np.testing.assert_allclose(predicted[0][:, 1], np.log(0.25))  # no program explains this gene
    np.testing.assert_allclose(np.exp(predicted[1][1:]), np.repeat(ratios[1:, 3:], 3, axis=1), rtol=1e-9)
    assert predicted[1][0] == pytest.approx(np.log(MIN_RATIO))


def test_programs_separate_two_domains() -> None:
    rng = np.random.default_rng(2)
    centers = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), axis=-1).reshape(-1, 2)
    left = centers[:, :1] < 6
    mean = np.where(left, np.r_[np.full(20, 6.0), np.full(20, 0.5)], np.r_[np.full(20, 0.5), np.full(20, 6.0)])
    counts = sparse.csr_matrix(rng.poisson(mean), dtype=np.float32)
    embedding = fit_sasa(counts, centers, detect_lattice(centers), config=SasaConfig(epochs=10), seed=0)
    fields = fit_program_fields(counts, embedding).fields[:, :-1]
    fraction = fields[left.ravel()].sum(axis=0) / fields.sum(axis=0)
    assert fraction.max() > 0.8
    assert fraction.min() < 0.2


def test_leading_fields_hold_the_share_of_every_spot() -> None:
    fields = np.array([[6.0, 3.0, 1.0, 10.0], [2.0, 2.0, 2.0, 6.0], [0.0, 0.0, 0.0, 0.0], [0.0, 8.0, 0.0, 8.0]])
    half = leading_fields(fields, 0.5)
    np.testing.assert_array_equal(half, [[1, 0, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1], [0, 1, 0, 1]])
    assert (np.where(half, fields, 0)[:, :3].sum(axis=1) >= 0.5 * fields[:, 3]).all()
    np.testing.assert_array_equal(leading_fields(fields, 0.7)[:2], [[1, 1, 0, 1], [1, 1, 1, 1]])
