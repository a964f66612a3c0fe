"""A writer that is killed at any time leaves the slide unchanged, no visible partial output, and no obstacle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLING = Path(__file__).parents[1] / "helpers" / "killing.py"
MOMENTS = int(os.environ.get("NAPARI_SRAST_KILLS", "13"))  # kills per kind: three ways to write, by time or by step

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and the signals of POSIX")


def kill(folder: Path, how: str, moments: int, by: str) -> dict[str, object]:
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-W", "ignore", str(KILLING), str(folder / "k"), how, str(moments), "0", by]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] == moments
    return report


@pytest.mark.contract(
    section="Outputs and system errors",
    case="killed at any moment",
    response="nothing half-done is seen; the next run clears it away",
)
@pytest.mark.parametrize("how", ["new", "stream", "into"])
def test_kill_before_a_random_file_system_call(how: str, tmp_path: Path) -> None:
    report = kill(tmp_path, how, 2, "step")
    assert report["killed_before_the_end"] == 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", ["new", "stream", "into"])
def test_kill_at_random_times(how: str, tmp_path: Path) -> None:
    """Half at a random time, half before a random step; the tox environment "reliability" runs 50 of each."""
    killed = [kill(tmp_path / by, how, MOMENTS, by)["killed_before_the_end"] for by in ("time", "step")]
    assert sum(map(int, killed)) > MOMENTS
