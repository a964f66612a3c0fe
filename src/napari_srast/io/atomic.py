"""Write files and folders atomically, with one writer per path and without leftovers of killed processes.

Every output is first written to a hidden sibling, ``.NAME.HEX.partial``, and gets its name by one rename. Meanwhile the
writer holds a lock, ``.NAME.lock`` in the same folder; the operating system releases it when the process ends, even if
the process is killed. A hidden sibling whose lock is free is therefore stale, and the next writer in that folder
removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_srast._utils.text import first_line
from napari_srast.errors import OutputError, is_memory_error

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "WriteRefused",
    "atomic_output",
    "output_error",
    "refuse_inside",
    "remove",
    "remove_stale_partials",
    "replace_file",
    "write_lock",
    "write_table",
]

_PARTIAL_NAME = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.partial[^/]*")


class WriteRefused(OSError):
    """The operating system refused to write the output; other ``OSError`` instances may concern something else."""


def refuse_inside(path: Path, source: Path) -> None:
    """Refuse an output path inside an input folder, because inputs are never changed.

    Parameters
    ----------
    path
        Path of the output.
    source
        Path of the input.

    Raises
    ------
    OutputError
        ``path`` is inside ``source``.
    """
    if source.resolve() in path.resolve().parents:
        raise OutputError(f"The output '{path}' is inside the input '{source}'; choose a path outside it.")


@contextlib.contextmanager
def atomic_output(
    path: Path, *, replace: bool = False, wait: float = 0.0, refusal: type[OSError] = OSError
) -> Iterator[Path]:
    """Yield a hidden sibling of ``path`` to write to, and rename it to ``path`` after the block succeeded.

    Parameters
    ----------
    path
        File or folder to create.
    replace
        Whether to replace an existing file or folder; False refuses it.
    wait
        Seconds to wait for another process that writes to the same path.
    refusal
        Class of the exceptions that mean a failed write; :class:`WriteRefused` if the block does more than writing, so
        that other ``OSError`` instances pass unchanged.

    Yields
    ------
    Path
        The hidden sibling; it does not exist yet.

    Raises
    ------
    OutputError
        The output exists already or is being written by another process, its folder is missing, or the system refuses
        to write.
    """
    if not path.name:
        raise OutputError(f"'{path}' is not the name of a file; give the output a name.")
    if os.path.lexists(path) and not replace:
        raise OutputError(f"'{path}' exists already; choose another name or remove it first.")
    if not os.path.isdir(path.parent):  # unlike Path.is_dir, False where a parent denies access
        raise OutputError(f"The folder '{path.parent}' does not exist, or you may not enter it; choose another one.")
    partial = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial{path.suffix}"
    with write_lock(path, wait=wait):
        remove_stale_partials(path)
        try:
            yield partial
            _rename_into_place(partial, path, replace)
        except (refusal, WriteRefused) as error:
            remove(partial)
            if is_memory_error(error):  # free disk space would not help
                raise
            raise output_error(path, error, leftover=partial) from error
        finally:
            remove(partial)


def _rename_into_place(partial: Path, path: Path, replace: bool) -> None:
    if replace:
        remove(path)
    elif os.path.lexists(path):
        raise OutputError(f"'{path}' was created by another program in the meantime; choose another name.")
    try:
        os.replace(partial, path)
    except OSError as error:
        raise WriteRefused(*error.args) from error


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table without its index as CSV, completely or not at all; see :func:`atomic_output`."""
    with atomic_output(path) as partial:
        table.to_csv(partial, index=False)


@contextlib.contextmanager
def write_lock(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of an output, so that no other process of this package writes to it.

    Parameters
    ----------
    path
        Path of the output.
    wait
        Seconds to wait for another process that holds the lock.

    Raises
    ------
    OutputError
        Another process holds the lock for longer than ``wait`` seconds, or the folder is not writable.
    """
    import filelock

    lock = _lock_of(path)
    holder = filelock.FileLock(lock)
    try:
        holder.acquire(timeout=wait)
    except filelock.Timeout:
        raise OutputError(
            f"'{path}' is being written by another process; wait until it has finished, then try again."
        ) from None
    except OSError as error:
        raise output_error(path, error) from error
    try:
        yield
    finally:
        remove(lock)  # while the lock is held: a waiting process notices, and creates a new file
        holder.release()


def remove_stale_partials(path: Path) -> None:
    """Remove partial outputs that killed processes left in the folder of ``path``.

    The caller holds the lock of ``path``. Partial outputs of other paths are removed if their lock is free.
    """
    import filelock

    partials: dict[str, list[Path]] = {}
    for sibling in path.parent.iterdir():
        match = _PARTIAL_NAME.fullmatch(sibling.name)
        if match:
            partials.setdefault(match["name"], []).append(sibling)
    for name, siblings in partials.items():
        owner = path.parent / name
        with contextlib.suppress(filelock.Timeout, OutputError, OSError):
            with contextlib.nullcontext() if name == path.name else write_lock(owner):
                for sibling in siblings:
                    remove(sibling)


def _lock_of(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def replace_file(path: Path, content: bytes) -> None:
    """Replace the content of a file in one step: a reader sees either the old or the new content."""
    partial = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, partial)
        os.replace(partial, path)
    finally:
        remove(partial)


def output_error(path: Path, error: OSError, leftover: Path | None = None) -> OutputError:
    """Build the error for a failed write.

    Parameters
    ----------
    path
        Path of the output.
    error
        Exception of the operating system.
    leftover
        Partial output; the message asks the user to remove it if it still exists.
    """
    reason = error.strerror or first_line(error)
    remaining = (
        f"remove the unfinished '{leftover}'"
        if leftover is not None and os.path.lexists(leftover)
        else "nothing was left behind"
    )
    return OutputError(
        f"'{path}' cannot be written ({reason}); free some space or choose another folder, and {remaining}."
    )


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists and the system allows it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
