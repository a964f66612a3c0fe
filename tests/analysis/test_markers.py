from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from napari_srast.analysis.markers import find_markers


def test_figures_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    values = np.log1p(rng.poisson(3.0, (50, 40)))
    labels = pd.Categorical.from_codes(rng.integers(0, 3, 50), ["1", "2", "3"])
    table = find_markers(values, [f"g{i}" for i in range(40)], labels).set_index(["domain", "gene"])
    inside = labels == "2"
    row = table.loc[("2", "g37")]
    assert row["auroc"] == pytest.approx(roc_auc_score(inside, values[:, 37]))
    means = [np.expm1(values[side, 37]).mean() for side in (inside, ~inside)]
    assert [row["mean_inside"], row["mean_outside"]] == pytest.approx(means)
    assert row["log2_fold_change"] == pytest.approx(np.log2((means[0] + 1) / (means[1] + 1)))


def test_best_markers_come_first():
    values = np.zeros((6, 3))
    values[:3, 1] = 1
    table = find_markers(values, ["a", "b", "c"], pd.Categorical(["1"] * 3 + ["2"] * 3))
    assert table.groupby("domain")["gene"].first().to_dict() == {"1": "b", "2": "a"}


def test_single_domain_has_no_comparison():
    table = find_markers(np.ones((4, 2)), ["a", "b"], pd.Categorical(["1"] * 4))
    assert table["auroc"].isna().all()
    assert table["log2_fold_change"].isna().all()
