"""Write docs/reliability_contract.md from the ``contract`` markers of the tests.

    python docs/make_contract.py          write the page
    python docs/make_contract.py --check  exit with status 1 if the page is not up to date

Every row of the page is a marker ``@pytest.mark.contract(section=..., case=..., response=...)`` on the test that
provokes the case, so renaming or moving a test needs no edit of the page.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability_contract.md"
SECTIONS = {
    "Stores": "",
    "Tables and counts": "",
    "Spots and transformations": "",
    "Images": "",
    "Imports": "",
    "Requests": "",
    "Models": "",
    "Other programs": "",
    "Outputs and system errors": "",
    "In the window": (
        "The window shows the same sentences. An unexpected error can be copied as a report: it holds settings, "
        "sizes, versions and lines of code, but no name, path, coordinate or count of the slide.\n\n"
    ),
}
HEAD = """# What is refused, and how

<!-- Written by `python docs/make_contract.py` from the markers of the tests: do not edit. -->

The window, the command line and Python open a slide through the same checks (`io/slide_reader.py`,
`io/safety_limits.py`, `io/store.py`). Input that cannot be used is refused with one sentence that names the element and
the next step. Input that can be repaired is repaired, and a warning says so. The command line exits with status 2 and
prints the sentence, the window shows it, and Python raises an `SrastError`. In every case the input keeps its bytes,
and no output is left behind.

Each row is provoked by the tests named in it. Run them with:

```sh
pytest -p no:napari tests -m "contract and not slow and not gui"
```

"""


def rows() -> dict[str, dict[tuple[str, str], list[str]]]:
    """Return section -> (case, response) -> tests, in the order of the test files."""
    found: dict[str, dict[tuple[str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.contract":
                    row = {word.arg: ast.literal_eval(word.value) for word in decorator.keywords}
                    test = f"{path.relative_to(ROOT / 'tests').as_posix()}::{node.name}"
                    tests = found[row["section"]][row["case"], row["response"]]
                    if test not in tests:
                        tests.append(test)
    return found


def page() -> str:
    """Return the text of the page."""
    by_section = rows()
    unknown = sorted(by_section.keys() - SECTIONS.keys())
    if unknown:
        raise SystemExit(f"Unknown sections: {', '.join(unknown)}; add them to SECTIONS in {Path(__file__).name}.")
    parts = [HEAD]
    for section, introduction in SECTIONS.items():
        parts.append(f"## {section}\n\n{introduction}| Case | Response | Test |\n|---|---|---|\n")
        for (case, response), tests in by_section[section].items():
            parts.append(f"| {case} | {response} | {', '.join(f'`{test}`' for test in tests)} |\n")
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the page; returns the exit status."""
    if arguments == ["--check"]:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
