from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np

from napari_srast.io.provenance import stored_mappings, to_storable


def test_provenance_of_every_type_survives_a_file(tmp_path):
    provenance = {
        "none": None,
        "flag": True,
        "number": np.float64(1.5),
        "path": Path("a") / "b",
        "names": ["A", "B"],
        "weights": (0.5, 1),
        "nested": {"empty": [], "deeper": {"x": 1}},
        "by_gene": {"HLA-A/B": 0.5},
        "rows": [{"expert": "gp", "weight": 0.5}],
        "matrix": np.eye(2),
        "words": np.array(["a", "b"]),
    }
    table = anndata.AnnData(np.eye(2, dtype=np.float32), uns={"provenance": to_storable(provenance)})
    table.write_h5ad(tmp_path / "x.h5ad")
    got = anndata.read_h5ad(tmp_path / "x.h5ad").uns["provenance"]
    assert set(got) == set(provenance) - {"none"}
    assert bool(got["flag"]) is True
    assert got["number"] == 1.5
    assert got["path"] == str(Path("a") / "b")
    assert list(got["names"]) == ["A", "B"]
    assert list(got["weights"]) == [0.5, 1]
    assert got["nested"]["deeper"]["x"] == 1
    assert json.loads(got["by_gene"]) == provenance["by_gene"]
    assert json.loads(got["rows"]) == provenance["rows"]
    np.testing.assert_array_equal(got["matrix"], np.eye(2))
    assert list(got["words"]) == ["a", "b"]


def test_mappings_that_are_stored_as_text_are_mappings_again():
    calibration = {
        "few": {"a": 1.5},
        "many": {f"Gene{i}": [0.1 * i, 0.5] for i in range(51)},
        "names": {"HLA-A/B": [0.5, 0.1]},
        "word": "{no JSON",
    }
    stored = to_storable(calibration)
    assert [type(stored[key]) for key in calibration] == [dict, str, str, str]
    got = stored_mappings(stored)
    assert got == calibration
