"""Execute the notebooks of the documentation: ``python docs/make_notebooks.py [NAME ...]``.

The sources are docs/notebooks/NAME.py in percent format: ``# %%`` begins a cell of code, ``# %% [markdown]`` one of
text. This script executes them in Jupyter and writes docs/notebooks/NAME.ipynb with outputs, which the documentation
shows and people download. tests/test_notebooks.py runs the sources, and compares them with the notebooks. It needs the
extras analysis, docs and notebooks.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "notebooks"


def cells(source: str) -> list[tuple[str, str]]:
    """Return the kind ("markdown" or "code") and the text of each cell of a percent script."""
    found = []
    for block in re.split(r"^# %%", source, flags=re.MULTILINE)[1:]:
        head, _, body = block.partition("\n")
        body = body.strip("\n")
        if head.strip() == "[markdown]":
            found.append(
                ("markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines()))
            )
        else:
            found.append(("code", body))
    return found


def execute(path: Path) -> Any:
    """Return the executed notebook of a percent script."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    for number, (kind, text) in enumerate(cells(path.read_text(encoding="utf-8"))):
        make = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
        notebook.cells.append(make(text, id=f"cell-{number}"))
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=1800, record_timing=False, resources={"metadata": {"path": folder}}, kernel_name="python3"
        )
        client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            outputs = [_plain(output) for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = [output for output in outputs if output.get("text", "shown")]
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _plain(output: Any) -> Any:
    """Remove the names of temporary folders and of this computer, and numbers of cells."""
    if "text" in output:
        output["text"] = re.sub(r"^\x1b.*\n?", "", output["text"], flags=re.MULTILINE)  # colored log lines
        output["text"] = re.sub(r"'/[^']*/([^/']+)'", r"'\1'", output["text"])
    for kind in ("text/plain", "text/html"):
        if kind in output.get("data", {}):
            output["data"][kind] = re.sub(r"'/[^']*/([^/']+)'", r"'\1'", output["data"][kind])
    return output


def main() -> None:
    """Execute the named notebooks, or all."""
    import nbformat

    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    for path in sorted(FOLDER.glob("*.py")):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            nbformat.write(execute(path), path.with_suffix(".ipynb"))
            print(path.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
