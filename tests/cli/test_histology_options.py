"""``--image NAME | none`` selects the histology image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from spatialdata.models import Image2DModel
from spatialdata.transformations import Affine

from napari_srast.cli import main
from napari_srast.core.slide import Slide, SlideImage


@pytest.fixture
def stored(tissue, make_store: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Write the tissue as a store with named images, each given as (y, x, c)."""

    def write(**images: SlideImage) -> Path:
        slide = Slide(
            counts=tissue.counts,
            genes=np.array([f"Gene{i}" for i in range(6)]),
            spot_ids=np.array([f"spot{i}" for i in range(len(tissue.centers))]),
            centers=tissue.centers,
            spot_diameter=100.0,
        )
        elements = {
            name: Image2DModel.parse(
                np.moveaxis(image.levels[0], 0, -1),
                dims=("y", "x", "c"),
                transformations={"global": Affine(image.to_intrinsic[0], ("x", "y"), ("x", "y"))},
            )
            for name, image in images.items()
        }
        path = tmp_path / "slide.zarr"
        make_store(slide, "squares", images=elements).write(path)
        return path

    return write


def test_image_option_selects_one_image_or_none(
    tissue, stored: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirrored = tissue.image(density=tissue.density[:, ::-1])
    store = stored(he=tissue.image(), dapi=tissue.image("fluorescence"), mirrored=mirrored)
    counts, messages = {}, {}
    for name in ("he", "dapi", "mirrored", "none"):
        out = tmp_path / f"{name}.h5ad"
        arguments = ["upsample", str(store), "-o", str(out), "--image", name, "--genes", "Gene3,Gene0"]
        assert main([*arguments, "--device", "cpu", "--json"]) == 0
        output = capsys.readouterr()
        messages[name] = json.loads(output.out).get("image_nats")
        table = anndata.read_h5ad(out)
        counts[name] = table.X.toarray()
        known = table.uns["napari_srast"]
        assert known["input"].get("image", "none") == name
        assert ("image" in known["calibration"]) == (name != "none")
        assert ("Note: The image 'mirrored'" in output.err and "not used" in output.err) == (name == "mirrored")
    for name in ("he", "dapi"):
        assert messages[name]["Gene0"] > messages[name]["Gene3"] > 0  # the gene of the stained cells
        assert np.abs(counts[name] - counts["none"]).sum() > 0.05 * counts["none"].sum()
    assert messages["mirrored"] == {"Gene3": 0.0, "Gene0": 0.0}
    assert messages["none"] is None
    np.testing.assert_array_equal(counts["mirrored"], counts["none"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "several images of the same kind and size; choose one with --image: first, second."),
        (["--image", "frist"], "no image 'frist'; choose one with --image: first, second."),
    ],
)
def test_ambiguous_image_is_refused_with_the_names(
    options: list[str],
    says: str,
    tissue,
    stored: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = stored(first=tissue.image(), second=tissue.image("fluorescence"))
    assert main(["upsample", str(store), "-o", str(tmp_path / "out.h5ad"), *options]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out.h5ad").exists()
