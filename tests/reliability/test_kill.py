"""A writer that is killed at any moment leaves the slide as it was, nothing half-done to be seen, and no obstacle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLING = Path(__file__).with_name("killing.py")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and the signals of POSIX")


def kill(folder: Path, how: str, moments: int, by: str) -> dict[str, object]:
    words = [sys.executable, "-W", "ignore", str(KILLING), str(folder / "k"), how, str(moments), "0", by]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["passed"] == moments
    return report


@pytest.mark.parametrize("how", ["new", "into"])
def test_kill_before_a_random_step_on_the_file_system(how: str, tmp_path: Path) -> None:
    report = kill(tmp_path, how, 2, "step")
    assert report["killed_before_the_end"] == 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("by", ["time", "step"])
@pytest.mark.parametrize("how", ["new", "into"])
def test_kill_at_fifty_random_moments(how: str, by: str, tmp_path: Path) -> None:
    report = kill(tmp_path, how, 50, by)
    assert report["killed_before_the_end"] > 25
