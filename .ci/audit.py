"""Print known vulnerabilities of the tested versions.

This is a report: it never fails, and it ends within 90 seconds, with or without a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
END = time.monotonic() + 90  # seconds


def call(*words: str | Path) -> str:
    """Run a program within the remaining time, and return its output."""
    left = max(END - time.monotonic(), 0.1)
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=left).stdout


def report() -> str:
    """Query the package index with pip-audit, in a temporary environment."""
    with tempfile.TemporaryDirectory() as folder:
        call(sys.executable, "-m", "venv", folder)
        program = Path(folder) / "bin"
        call(program / "pip", "install", "-q", "--disable-pip-version-check", "pip-audit")
        asked = "--no-deps --disable-pip --progress-spinner off --timeout 5 -f json -r".split()
        found = json.loads(call(program / "pip-audit", *asked, CONSTRAINTS))["dependencies"]
    known = [package for package in found if "skip_reason" not in package]
    vulnerable = [f"{p['name']} {p['version']}: {', '.join(v['id'] for v in p['vulns'])}" for p in known if p["vulns"]]
    summary = f"{len(vulnerable)} with known vulnerabilities, {len(found) - len(known)} not in the index"
    return "\n".join([f"Audit of {len(found)} packages: {summary}.", *vulnerable])


if __name__ == "__main__":
    try:
        print(report())
    except Exception as error:  # noqa: BLE001 - it is only a report
        print(f"Audit: the package index could not be queried ({type(error).__name__}).")
    sys.exit(0)
