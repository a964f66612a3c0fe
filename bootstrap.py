#!/usr/bin/env python3
"""Install napari-srast in .venv next to this file and run it; needs only Python 3.11 or later.

    python3 bootstrap.py demo [options of 'napari-srast demo']
    python3 bootstrap.py test [options of pytest]

The first call creates the virtual environment .venv and installs the tested versions of all packages into it and, on
Debian and Ubuntu, the system libraries that a window needs. Later calls take seconds, until pyproject.toml or
constraints.txt changes. Without a display, everything runs on a virtual screen.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
STAMP = VENV / "napari-srast.stamp"
OLDEST = (3, 11)
NEWER = ("3.11", "3.12", "3.13")  # tried if the running Python is too old
WINDOWS = sys.platform == "win32"
LINUX = sys.platform.startswith("linux")
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")

# System libraries that the wheels of PyQt6 and OpenGL need
WINDOW_PACKAGES = (
    "fonts-dejavu-core libdbus-1-3 libegl1 libfontconfig1 libgl1 libglib2.0-0 libxcb-cursor0 libxcb-icccm4 "
    "libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxkbcommon-x11-0"
).split()
VIRTUAL_SCREEN_PACKAGES = ["xauth", "xvfb"]
VIRTUAL_SCREEN = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24"]
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


class BootstrapError(Exception):
    """Something that the user has to do first; the message says what it is."""


def main(arguments: list[str]) -> int:
    """Run ``demo`` or ``test`` and return the exit status."""
    if not arguments or arguments[0] not in ("demo", "test"):
        print(__doc__.strip(), file=sys.stdout if arguments[:1] in (["-h"], ["--help"]) else sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    command, options = arguments[0], arguments[1:]
    try:
        if sys.version_info < OLDEST:
            return run_with_newer_python(arguments)
        virtual = LINUX and (command == "test" or "--headless" in options or not has_display())
        install_system_packages(WINDOW_PACKAGES + (VIRTUAL_SCREEN_PACKAGES if virtual else []))
        make_environment()
        install()
    except BootstrapError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bootstrap: stopped; run it again to continue.", file=sys.stderr)
        return 1
    sys.stdout.flush()
    try:
        return run_tests(options) if command == "test" else run_demo(options)
    except KeyboardInterrupt:
        return 1


def run_demo(options: list[str]) -> int:
    """Run the demo, which starts a virtual screen if it needs one."""
    return subprocess.run([str(PYTHON), "-m", "napari_srast", "demo", *options], check=False).returncode


def run_tests(options: list[str]) -> int:
    """Run pytest on all cores; on Linux always on a virtual screen, so that no window opens on the desktop."""
    command = [str(PYTHON), "-m", "pytest", "--numprocesses", "auto", "--dist", "loadgroup", *options]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # there are as many processes as cores
    if LINUX and shutil.which("xvfb-run"):
        command = VIRTUAL_SCREEN + command
        environment.pop("WAYLAND_DISPLAY", None)
        environment["QT_QPA_PLATFORM"] = "xcb"
    return subprocess.run(command, cwd=HERE, env=environment, check=False).returncode


def has_display() -> bool:
    """Return whether a window can be shown."""
    return not LINUX or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def run_with_newer_python(arguments: list[str]) -> int:
    """Run this script with a newer Python of this machine.

    Raises
    ------
    BootstrapError
        No newer Python is installed.
    """
    for version in NEWER:
        candidate = shutil.which(f"python{version}")
        works = candidate and subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0
        if candidate and works:
            return subprocess.run([candidate, str(Path(__file__).resolve()), *arguments], check=False).returncode
    raise BootstrapError(
        f"this is Python {platform.python_version()}, but 3.11 or later is needed; install it and run it by name, "
        "such as: python3.11 bootstrap.py demo"
    )


def install_system_packages(wanted: list[str]) -> None:
    """Install missing packages with apt, if it exists and is permitted.

    Raises
    ------
    BootstrapError
        A package is missing and cannot be installed by this script.
    """
    if not LINUX:
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg-query")):
        if "xvfb" in wanted and not shutil.which("xvfb-run"):
            raise BootstrapError(
                "xvfb-run is missing; install it with this system's package manager (Fedora: dnf install "
                "xorg-x11-server-Xvfb xauth mesa-libEGL mesa-libGL libxkbcommon-x11 xcb-util-cursor "
                "xcb-util-wm xcb-util-image xcb-util-keysyms xcb-util-renderutil dejavu-sans-fonts)."
            )
        return
    missing = [package for package in wanted if not has_system_package(package)]
    if not missing:
        return
    by_hand = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(missing)}"
    prefix = administrator()
    if prefix is None:
        raise BootstrapError(f"system packages are missing; as administrator run: {by_hand}")
    print(f"Installing system packages: {' '.join(missing)}", flush=True)
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    subprocess.run([*apt, "update"], check=False)  # an old list may be enough; the next step fails if it is not
    installed = subprocess.run([*apt, "install", "-y", "--no-install-recommends", *missing], check=False)
    if installed.returncode != 0:
        raise BootstrapError(f"apt-get failed, see above; as administrator run: {by_hand}")


def has_system_package(name: str) -> bool:
    """Return whether a Debian package is installed, also under its name with 64-bit times (t64)."""
    query = ["dpkg-query", "-W", "-f", "${Status}\n", name, f"{name}t64"]
    output = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    return "install ok installed" in output


def administrator() -> list[str] | None:
    """Return the prefix that runs a command as root without a password, or None."""
    if os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return ["sudo", "-n"]
    return None


def make_environment() -> None:
    """Create .venv, or create it again if it is broken or has an old Python."""
    if environment_works():
        return
    if subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode:
        install_system_packages([f"python3.{sys.version_info.minor}-venv"])
    print(f"Creating the virtual environment {VENV}", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False)
    if made.returncode != 0 or not environment_works():
        raise BootstrapError(
            f"the virtual environment {VENV} cannot be created; install Python's venv and pip modules."
        )


def environment_works() -> bool:
    """Return whether .venv has pip and a Python that is new enough."""
    if not PYTHON.exists():
        return False
    check = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.run([str(PYTHON), "-c", check], capture_output=True, check=False).returncode == 0


def install() -> None:
    """Install the tested versions into .venv, unless they are installed for these files.

    Raises
    ------
    BootstrapError
        pip failed.
    """
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted:
        return
    print("Installing the Python packages; this takes some minutes the first time.", flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += [] if sys.stdout.isatty() else ["-qq", "--progress-bar", "off"]
    command += [*cpu_torch(), "-c", "constraints.txt", "-e", ".[all]"]
    if subprocess.run(command, cwd=HERE, check=False).returncode != 0:
        raise BootstrapError(
            "pip failed, see above; fix the problem that it names (often the network) and run this again."
        )
    STAMP.write_text(wanted, encoding="utf-8")


def fingerprint() -> str:
    """Return a hash of the files that define the environment."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((HERE / name).read_bytes())
    digest.update(str(HERE).encode())
    return digest.hexdigest()


def cpu_torch() -> list[str]:
    """Return pip options that find torch without CUDA, which is gigabytes smaller, on machines without a GPU."""
    if not LINUX or platform.machine() != "x86_64" or shutil.which("nvidia-smi"):
        return []
    if any(os.environ.get(name) for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX")):
        return []  # the user has chosen the source of torch
    try:
        with urllib.request.urlopen(f"{CPU_TORCH_INDEX}/torch/", timeout=5):
            return ["--extra-index-url", CPU_TORCH_INDEX]
    except (urllib.error.URLError, OSError):
        return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
