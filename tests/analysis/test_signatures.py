from __future__ import annotations

import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from helpers.planted import planted_slide
from helpers.results import make_result

from napari_srast.analysis.expression_scaling import log_normalize
from napari_srast.analysis.signatures import describe_left_out, signatures
from napari_srast.core.result import UpsampleResult
from napari_srast.errors import Cancelled, InputError


@pytest.fixture(scope="module")
def result() -> UpsampleResult:
    """A planted slide at factor 2."""
    return make_result(planted_slide(n=8), method="gp")


@pytest.fixture
def scanpy():
    return pytest.importorskip("scanpy")


def test_scores_are_those_of_scanpy(result, scanpy):
    found = signatures(result, {"A": ["G3", "G5", "absent"], "B": ["G7"]}, seed=4)
    table = anndata.AnnData(
        log_normalize(result.expression.toarray()), var=pd.DataFrame(index=result.genes.astype(str))
    )
    scanpy.tl.score_genes(table, ["G3", "G5"], n_bins=4, random_state=4)
    np.testing.assert_allclose(found["A"], table.obs["score"])
    assert list(found) == ["A", "B"]
    assert found.index[0] == f"{result.run}_1"
    assert found.attrs["missing"] == {"A": ["absent"], "B": []}


def test_index_is_that_of_the_table(result, scanpy):
    assert list(signatures(result, {"A": ["G3"]}).index) == list(result.to_anndata().obs_names)


def test_numpy_random_state_is_kept(result, scanpy):
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    signatures(result, {"A": ["G3"]})
    assert np.random.random() == expected  # noqa: NPY002


def test_set_without_known_genes_is_refused(result, scanpy):
    with pytest.raises(InputError, match=r"any gene of 'A' \(x, y\); run again"):
        signatures(result, {"A": ["x", "y"]})


def test_sets_that_have_no_score_are_left_out_with_the_reason(result, scanpy):
    sets = {"A": ["x", "y"], "B": ["G3"], "C": list(result.genes)}
    found = signatures(result, sets)
    assert list(found) == ["B"]
    assert found.attrs["left_out"] == {"A": "no gene has expression", "C": "no control genes"}
    np.testing.assert_array_equal(found["B"], signatures(result, {"B": ["G3"]})["B"])
    assert describe_left_out(found) == "Left out 'A' (no gene has expression), 'C' (no control genes)."
    assert describe_left_out(signatures(result, {"B": ["G3"]})) == ""


def test_set_without_control_genes_is_refused(result, scanpy):
    with pytest.raises(InputError, match="no control genes for 'A'"):
        signatures(result, {"A": list(result.genes)})


def test_missing_package_is_named_with_the_command(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "scanpy", None)
    with pytest.raises(InputError, match=r'scanpy; install it with: pip install "napari-srast\[analysis\]"'):
        signatures(result, {"A": ["G3"]})


def test_progress_is_reported_and_cancellation_stops(result, scanpy):
    steps = []
    signatures(result, {"A": ["G3"], "B": ["G4"]}, progress=steps.append)
    assert [(step.stage, step.fraction) for step in steps] == [("signatures", 0), ("signatures", 0.5)]
    with pytest.raises(Cancelled):
        signatures(result, {"A": ["G3"]}, should_stop=lambda: True)
