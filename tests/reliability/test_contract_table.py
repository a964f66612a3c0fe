"""docs/reliability_contract.md is the page that the tests' markers make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_contract_page_is_up_to_date() -> None:
    script = ROOT / "docs" / "make_contract.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert done.returncode == 0, "run: python docs/make_contract.py"


def test_contract_page_has_every_section() -> None:
    page = (ROOT / "docs" / "reliability_contract.md").read_text(encoding="utf-8")
    sections = page.split("\n## ")[1:]
    assert len(sections) == 10
    for section in sections:
        assert section.count("\n| ") > 1, section.splitlines()[0]
