from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_srast.geometry.lattice import detect_lattice


@pytest.mark.parametrize("lattice", ["square", "hex"])
def test_make_slide_uses_the_requested_lattice(make_slide, lattice):
    slide = make_slide(6, 7, n_genes=4, lattice=lattice, pitch=50)
    assert slide.counts.shape == (42, 4)
    found = detect_lattice(slide.centers)
    assert found.kind == lattice
    assert found.pitch == pytest.approx(50)


def test_make_slide_is_deterministic(make_slide):
    first, second = make_slide(), make_slide()
    np.testing.assert_array_equal(first.counts.toarray(), second.counts.toarray())


_TWO_DEVICES = """
from napari_srast._utils import devices

devices.available_devices = lambda: ("cuda", "cpu")


def pytest_runtest_call(item):
    print(item.name, devices.choose_device("auto"))
"""


def test_compute_tests_run_on_each_device(tmp_path: Path) -> None:
    (tmp_path / "two_devices.py").write_text(_TWO_DEVICES)
    here = Path(__file__).parent
    tests = ("inference/methods/test_program_mixture.py", "geometry/test_bisection.py")
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "two_devices", "-p", "no:xdist", "-s", "-q", *(here / t for t in tests)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=here.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    messages = dict(
        line.strip(" .").split() for line in found.splitlines() if line.strip(" .").endswith(("cuda", "cpu"))
    )
    for device in ("cuda", "cpu"):
        of_it = [default for name, default in messages.items() if device in name]
        assert of_it
        assert set(of_it) == {device}
    assert any("[" not in name for name in messages)  # of geometry, once


def test_one_process_runs_all_tests_of_a_group() -> None:
    pytest.importorskip("xdist")
    here = Path(__file__).parent
    printed = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:napari", "-v", "-n", "2", "--dist", "loadgroup"]
        + [f"tests/core/test_{name}.py" for name in ("region", "mass_balance", "gene_list")],
        cwd=here.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = re.findall(r"^\[(gw\d)\].* PASSED (\S+?)::", printed, re.MULTILINE)
    workers = {file: {worker for worker, ran in lines if ran == file} for _, file in lines}
    assert len(workers) == 3
    assert all(len(used) == 1 for used in workers.values()), workers
    assert len(set.union(*workers.values())) == 2


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/gui/widgets/test_gene_table.py::test_a", "window"),
        ("tests/io/test_napari_spatialdata.py::test_b[x::y]", "window"),
        ("tests/core/test_region.py::test_c", "tests/core/test_region.py"),
    ],
)
def test_window_tests_are_one_group(request: pytest.FixtureRequest, test: str, group: str) -> None:
    (conftest,) = (
        plugin
        for plugin in request.config.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", None) == str(Path(__file__).with_name("conftest.py"))
    )
    assert conftest.process_group(test) == group
