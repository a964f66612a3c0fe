"""The documentation builds without a warning, and a broken reference is one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
BUILDERS = ("sphinx", "furo", "myst_nb")

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in BUILDERS), reason="the extra 'docs' is not installed"
)


def _build(docs: Path, output: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(docs), str(output)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}  # those of libraries, which are not about the pages
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


def test_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    done = _build(DOCS, tmp_path)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "quickstart.html" in index
    assert len(list(tmp_path.glob("**/*.html"))) > 50


def test_broken_reference_fails_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    shutil.copy(DOCS / "conf.py", docs)
    (docs / "index.md").write_text("# Pages\n\n[nowhere](nowhere.md)\n", encoding="utf-8")
    done = _build(docs, tmp_path / "html")
    assert done.returncode == 1
    assert "nowhere" in done.stderr
