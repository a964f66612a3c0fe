"""Build wheel and sdist, check them, and run the wheel in a new environment.

    python .ci/package.py [--out FOLDER]

The dependencies are those of the Python that runs this script, so that nothing large is downloaded: the new environment
contains only the wheel, and a path to the dependencies. Exit status 77: the package index could not be reached.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 10_000_000
NO_NETWORK = 77
IN_WHEEL = (
    "napari_srast/py.typed",
    "napari_srast/napari.yaml",
    "napari_srast/_build_version.py",
    "napari_srast/checkpoints/default.safetensors",
    "napari_srast/checkpoints/default.md",
    "napari_srast/datasets/mouse_dentate_gyrus.h5ad",
    "napari_srast/datasets/mouse_dentate_gyrus.LICENSE",
)
IN_SDIST = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "src/napari_srast/py.typed")
# Runs in the new environment, in an empty folder.
SMOKE_TEST = """
import importlib.metadata, json, sys
from pathlib import Path
import napari_srast as srast

package = Path(srast.__file__).parent
assert package.is_relative_to(sys.prefix), f"{package} is not in the new environment"
(entry,) = {p.value for p in importlib.metadata.entry_points(group="napari.manifest") if p.name == "napari-srast"}
from npe2 import PluginManifest
assert PluginManifest.from_file(package / "napari.yaml").contributions.widgets
from napari_srast.checkpoints.storage import load_checkpoint
load_checkpoint("default")
result = srast.upsample(srast.mouse_dentate_gyrus(), genes=["Hpca"], method="uniform", factor=2)
total = result.slide.counts[:, result.slide.gene_indices(["Hpca"])].sum()
assert abs(result.counts.sum() - total) < 1e-6 * total
print(json.dumps({"version": srast.__version__, "entry_point": entry, "pixels": result.n_pixels}))
"""


def run(*words: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Run a program and return its standard output; stop with its messages if it fails."""
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(f"{Path(str(words[0])).name} {' '.join(map(str, words[1:4]))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def make_environment(folder: Path) -> Path:
    """Create a virtual environment and return its Python."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def build(folder: Path, out: Path) -> None:
    """Build sdist and wheel, the wheel from the sdist, and check their metadata."""
    python = make_environment(folder)
    words = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "build", "twine"]
    if subprocess.run(words, capture_output=True).returncode != 0:
        print("The package index cannot be reached, so the package was not built.", file=sys.stderr)
        sys.exit(NO_NETWORK)
    run(python, "-m", "build", "--outdir", out, ROOT)
    run(python, "-m", "twine", "check", "--strict", *out.iterdir())


def check_content(out: Path) -> None:
    """Check that the archives are complete and small."""
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode("utf-8")
    assert not (missing := set(IN_WHEEL) - names), f"the wheel lacks {sorted(missing)}"
    assert all(name.startswith("napari_srast") for name in names), "the wheel has files outside the package"
    assert "](docs/" not in metadata, "the description on the package index has relative links"
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert not (missing := set(IN_SDIST) - inside), f"the sdist lacks {sorted(missing)}"
    for path in (wheel, sdist):
        assert path.stat().st_size < MAX_BYTES, f"{path.name} has {path.stat().st_size:,} bytes"


def run_wheel(folder: Path, out: Path) -> dict[str, object]:
    """Install the wheel into a new environment, and run it in an empty folder."""
    python = make_environment(folder)
    (wheel,) = out.glob("*.whl")
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    empty = folder / "empty"
    empty.mkdir()
    environment = {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": ""}
    program = python.with_name("napari-srast.exe" if sys.platform == "win32" else "napari-srast")
    run(program, "--version", cwd=empty, **environment)
    return json.loads(run(python, "-c", SMOKE_TEST, cwd=empty, **environment).splitlines()[-1])


def main() -> None:
    """Build, check, install and run; print what was built."""
    parser = argparse.ArgumentParser(description="Build and check wheel and sdist.")
    parser.add_argument("--out", type=Path, help="copy the archives into this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "dist"
        build(folder / "tools", out)
        check_content(out)
        report = run_wheel(folder / "new", out)
        archives = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
        if options.out:
            shutil.copytree(out, options.out, dirs_exist_ok=True)
    print(json.dumps({**report, "bytes": archives}, indent=2))


if __name__ == "__main__":
    main()
