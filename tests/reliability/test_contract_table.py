"""The table of docs/reliability_contract.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT.parent / "docs" / "reliability_contract.md"
WINDOW = {"window": "gui/test_window_contract.py", "window faults": "gui/test_window_faults.py"}
SHORT = {"hostile": "test_hostile.py", **WINDOW} | {
    name: f"reliability/test_{name}.py" for name in ("contract", "security", "numbers", "faults", "memory", "kill")
}


def test_every_row_names_a_test_that_exists() -> None:
    rows = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| Case ", "|---"))]
    assert len(rows) > 60
    for row in rows:
        named = re.findall(r"(?:\b([a-z][a-z ]*) )?`(?:([\w/]+\.py)::)?(test_\w+)`", row.rsplit("|", 2)[1])
        assert named, row
        for short, file, test in named:
            path = ROOT / (file or SHORT[short])
            assert re.search(rf"^def {test}\(", path.read_text(encoding="utf-8"), re.MULTILINE), f"{path.name}: {test}"
