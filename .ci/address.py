"""Print the repository's address, or change it everywhere.

    python .ci/address.py                                  # print it, and the files that contain it
    python .ci/address.py https://github.com/OWNER/NAME    # replace it in all tracked files

The address is ``Repository`` in ``[project.urls]`` of ``pyproject.toml``. Until there is a public repository, it is a
placeholder.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOST = "https://github.com/"


def repository() -> str:
    """Return the repository's address."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Repository"])


def texts() -> Iterator[tuple[Path, str]]:
    """Yield the tracked text files and their content."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            yield path, content.decode("utf-8")


def variants(address: str) -> tuple[str, str]:
    """Return the address and that of its files in plain form."""
    return address, address.replace(HOST, "https://raw.githubusercontent.com/")


def main(arguments: list[str]) -> int:
    """Print or change the address, and return the exit status."""
    old = repository()
    if not arguments:
        print(old)
        for path, text in texts():
            if any(form in text for form in variants(old)):
                print(f"  {path.relative_to(ROOT)}")
        return 0
    new = arguments[0].rstrip("/")
    if not new.startswith(HOST) or new.count("/") != 4:
        print(f"'{new}' is no address of a repository; give one such as {HOST}OWNER/NAME.", file=sys.stderr)
        return 2
    for path, text in texts():
        changed = text
        for before, after in zip(variants(old), variants(new), strict=True):
            changed = changed.replace(before, after)
        if changed != text:
            path.write_text(changed, encoding="utf-8", newline="")
            print(f"changed {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
