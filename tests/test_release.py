"""What is published is complete: archives, workflows, recipe, addresses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
YAML_FILES = [
    *(
        ROOT / name
        for name in (".readthedocs.yaml", "CITATION.cff", "conda-forge/recipe.yaml", ".napari-hub/config.yml")
    ),
    *sorted((ROOT / ".github").rglob("*.yml")),
]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NO_NETWORK = 77  # exit status of .ci/package.py
CONDA_NAMES = {
    "torch": "pytorch",
    "torch-geometric": "pytorch_geometric",
    "dask": "dask-core",
    "matplotlib": "matplotlib-base",
}


@pytest.mark.slow
def test_wheel_is_complete_and_runs_in_a_new_environment() -> None:
    done = subprocess.run([sys.executable, ROOT / ".ci" / "package.py"], capture_output=True, text=True)
    if done.returncode == NO_NETWORK:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entry_point"] == "napari_srast:napari.yaml"


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_yaml_can_be_read(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_limits_and_call_what_exists(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    environments = re.findall(r"^\[testenv:([\w-]+)\]", (ROOT / "tox.ini").read_text(encoding="utf-8"), re.MULTILINE)
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        for entry in job.get("strategy", {}).get("matrix", {}).get("include", ()):
            assert entry["tox"] in environments
        for step in job["steps"]:
            assert {"uses", "run"} & set(step)
            for script in re.findall(r"python (\S+\.py)", step.get("run", "")):
                assert (ROOT / script).is_file()


def test_workflows_test_the_supported_versions_of_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    stated = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == stated
    assert PROJECT["requires-python"] == f">={stated[0]}"


def test_recipe_has_the_dependencies_of_the_package() -> None:
    recipe = yaml.safe_load((ROOT / "conda-forge" / "recipe.yaml").read_text(encoding="utf-8"))
    listed = dict(line.partition(" ")[::2] for line in recipe["requirements"]["run"])
    for requirement in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["gui"]):
        name, _, versions = re.fullmatch(r"([\w-]+)(\[[^\]]*\])?(.*)", requirement).groups()
        assert listed.get(CONDA_NAMES.get(name, name)) == versions, f"conda-forge/recipe.yaml: {requirement}"


def test_every_address_is_that_of_the_repository() -> None:
    """``.ci/address.py`` changes all addresses at once, so that no other one may be left."""
    address = PROJECT["urls"]["Repository"]
    owner = re.escape(address.rsplit("/", 2)[1])
    listed = subprocess.run([sys.executable, ROOT / ".ci" / "address.py"], capture_output=True, text=True, check=True)
    assert listed.stdout.splitlines()[0] == address
    assert "  pyproject.toml" in listed.stdout.splitlines()
    pages = [ROOT / "README.md", ROOT / "conda-forge" / "recipe.yaml", *(ROOT / "docs").rglob("*.md")]
    for path in pages:
        for found in re.findall(
            r"https://(?:github|raw\.githubusercontent)\.com/([\w.-]+)/napari-srast", path.read_text("utf-8")
        ):
            assert re.fullmatch(owner, found), f"{path.name}: {found}"


def test_address_is_replaced_everywhere(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "address.py").write_text((ROOT / ".ci" / "address.py").read_text(encoding="utf-8"))
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/a/b"\n')
    (tmp_path / "README.md").write_text(
        "![](https://raw.githubusercontent.com/a/b/main/x.png) https://github.com/c/d\n"
    )
    (tmp_path / "picture.png").write_bytes(b"\0https://github.com/a/b")
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    script = [sys.executable, tmp_path / ".ci" / "address.py"]
    assert subprocess.run([*script, "github.com/e"], capture_output=True).returncode == 2
    subprocess.run([*script, "https://github.com/e/f"], check=True, capture_output=True)
    assert subprocess.run(script, capture_output=True, text=True).stdout.splitlines()[0] == "https://github.com/e/f"
    changed = (tmp_path / "README.md").read_text()
    assert changed == "![](https://raw.githubusercontent.com/e/f/main/x.png) https://github.com/c/d\n"
    assert (tmp_path / "picture.png").read_bytes() == b"\0https://github.com/a/b"
