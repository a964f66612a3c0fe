"""Measure the numbers of performance.md: ``python docs/make_performance.py [--only NAME]``.

Needs an idle computer with 8 GB of memory and takes half an hour on two cores. Writes performance/NAME.json, the output
of ``napari-srast bench --json``, performance/figures.md and images/performance_*.png. The run "peers" is skipped if the
published packages that it measures are not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from napari_srast.benchmarks.external import EXTERNAL_METHODS, require_external_methods
from napari_srast.errors import SettingsError

HERE = Path(__file__).resolve().parent
FOLDER, IMAGES = HERE / "performance", HERE / "images"
RUNS = {
    "visium": "--spots 5000 --genes 18000 --factors 2",
    "visium_factor_4": "--spots 5000 --genes 18000 --factors 4 --no-peer",
    "sweep": "--spots 500,1000,2000,5000 --genes 200,50,800,20000 --factors 2,4,8",
    "tiles": "--spots 2000 --genes 200 --factors 2 --workers 1,2,4 --no-peer",
    "growth": "--spots 25000,100000 --genes 50 --factors 2",
    "peers": f"--spots 500,1000 --genes 20 --factors 2 --peers {','.join(EXTERNAL_METHODS)}",
}
PLOTTED = ("sweep", "tiles", "growth")
HEAD = (
    "| method | spots | genes | factor | seconds | CPU s | writing s | first region s | region s | peak MB | "
    "CPU s over interpolation's |"
)


def measure(name: str) -> None:
    """Run one benchmark in its own process and save its numbers and plots."""
    with tempfile.TemporaryDirectory() as plots:
        arguments = ["bench", *RUNS[name].split(), "--json", *(["--plots", plots] if name in PLOTTED else [])]
        completed = subprocess.run([_program(), *arguments], stdout=subprocess.PIPE, check=True)
        for plot in Path(plots).glob("*.png"):
            shutil.copyfile(plot, IMAGES / f"performance_{name}_{plot.stem.removeprefix('bench_')}.png")
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(json.loads(completed.stdout), indent=1) + "\n", encoding="utf-8")


def missing_package(name: str) -> str | None:
    """Return why a run of published packages is not possible, or None."""
    if "--peers" not in RUNS[name]:
        return None
    try:
        require_external_methods(list(EXTERNAL_METHODS))
    except SettingsError as error:
        return str(error)
    return None


def _program() -> str:
    return str(Path(sys.executable).with_name("napari-srast"))


def help_seconds() -> float:
    """Return the median wall time of ``napari-srast --help``."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([_program(), "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[2]


def table(benchmark: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of one benchmark."""
    ratios = {
        (r["method"], r["spots"], r["genes"], r["factor"]): r["cpu_seconds"]
        for r in benchmark["ratios_to_pycnophylactic"]
    }
    lines = [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    for one in benchmark["measurements"]:
        ratio = ratios.get((one["method"], one["spots"], one["genes"], one["factor"]))
        cells = [
            one["method"],
            *(f"{one[key]:,g}" for key in ("spots", "genes", "factor")),
            *(
                "" if one[key] is None else f"{one[key]:.1f}"
                for key in ("seconds", "cpu_seconds", "write_seconds", "first_region_seconds", "region_seconds")
            ),
            f"{one['process_mb']:,.0f}",
            "" if ratio is None else f"{ratio:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_page() -> None:
    """Write figures.md with all measured tables and plots."""
    lines = [f"<!-- made by docs/{Path(__file__).name} -->", ""]
    for name, options in RUNS.items():
        path = FOLDER / f"{name}.json"
        if path.exists():
            lines += [f"`napari-srast bench {options}`:", "", *table(json.loads(path.read_text())), ""]
    lines += [f"`napari-srast --help` took {help_seconds():.2f} s (median of five).", ""]
    for plot in sorted(IMAGES.glob("performance_*.png")):
        lines += [f"![{plot.stem.replace('_', ' ')}](../images/{plot.name})", ""]
    (FOLDER / "figures.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=[*RUNS, "page"], help="measure only this run; can be repeated"
    )
    for wanted in parser.parse_args().only or RUNS:
        if wanted != "page" and (missing := missing_package(wanted)):
            print(f"{wanted}: skipped. {missing}", flush=True)
        elif wanted != "page":
            print(f"{wanted}: load {os.getloadavg()[0]:.1f}", flush=True)
            measure(wanted)
    write_page()
