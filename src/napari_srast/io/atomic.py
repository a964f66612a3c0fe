"""Writing so that nothing half-done is ever seen, two writers never meet, and what a killed one left is cleared away.

Whatever is written first takes shape as a hidden sibling, ``.NAME.HEX.partial``, and gets its own name by one rename. A
lock beside it, ``.NAME.lock``, is held all the while; the system lets go of it when the process ends, however it ends.
So a hidden sibling whose lock is free belongs to nobody any more, and the next writer in that folder removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from napari_srast._utils.text import one_line
from napari_srast.errors import OutputError, is_memory_error

__all__ = [
    "WriteRefused",
    "atomic_output",
    "output_error",
    "refuse_inside",
    "remove",
    "remove_stale_partials",
    "replace_file",
    "write_lock",
]

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.partial[^/]*")


class WriteRefused(OSError):
    """The system refuses to write the output; any other error of the system is about something else."""


def refuse_inside(path: Path, source: Path) -> None:
    """Refuse an output that lies inside an input, which must stay as it is.

    Raises
    ------
    OutputError
        It does.
    """
    if source.resolve() in path.resolve().parents:
        raise OutputError(f"The output '{path}' lies inside the input '{source}'; choose a path outside it.")


@contextlib.contextmanager
def atomic_output(
    path: Path, *, replace: bool = False, wait: float = 0.0, refusal: type[OSError] = OSError
) -> Iterator[Path]:
    """Yield a hidden sibling of ``path`` to write to; it takes the name ``path`` only once all went well.

    Parameters
    ----------
    path
        File or folder to make.
    replace
        Take the place of what is there, instead of refusing.
    wait
        Seconds to wait for another process that writes the same.
    refusal
        What is raised where the system refuses to write; :class:`WriteRefused` where more than writing is done meanwhile.

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
    if not os.path.isdir(path.parent):  # unlike Path.is_dir, also where the way there is closed
        raise OutputError(f"The folder '{path.parent}' does not exist, or you may not enter it; choose another one.")
    partial = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial{path.suffix}"
    with write_lock(path, wait=wait):
        remove_stale_partials(path)
        try:
            yield partial
            _take_name(partial, path, replace)
        except (refusal, WriteRefused) as error:
            remove(partial)
            if is_memory_error(error):  # which no free space on the disk would mend
                raise
            raise output_error(path, error, left=partial) from error
        finally:
            remove(partial)


def _take_name(partial: Path, path: Path, replace: bool) -> None:
    if replace:
        remove(path)
    elif os.path.lexists(path):
        raise OutputError(f"'{path}' came into being meanwhile; choose another name.")
    try:
        os.replace(partial, path)
    except OSError as error:
        raise WriteRefused(*error.args) from error


@contextlib.contextmanager
def write_lock(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of an output: no other process of this package writes it meanwhile.

    Raises
    ------
    OutputError
        Another process holds it for longer than ``wait`` seconds, or the folder cannot be written to.
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
        remove(lock)  # while it is held: who waits for it notices, and makes a new one
        holder.release()


def remove_stale_partials(path: Path) -> None:
    """Remove what killed processes left in the folder of ``path``, whose lock is held; others' lock must be free."""
    import filelock

    left: dict[str, list[Path]] = {}
    for sibling in path.parent.iterdir():
        match = _LEFTOVER.fullmatch(sibling.name)
        if match:
            left.setdefault(match["name"], []).append(sibling)
    for name, siblings in left.items():
        owner = path.parent / name
        with contextlib.suppress(filelock.Timeout, OutputError, OSError):
            with contextlib.nullcontext() if name == path.name else write_lock(owner):
                for sibling in siblings:
                    remove(sibling)


def _lock_of(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def replace_file(path: Path, content: bytes) -> None:
    """Give a file new content in one step: whoever reads it sees the old one or the new one."""
    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, part)
        os.replace(part, path)
    finally:
        remove(part)


def output_error(path: Path, error: OSError, left: Path | None = None) -> OutputError:
    """Turn an operating system's refusal to write into one sentence; ``left`` is what may not have been removable."""
    reason = error.strerror or one_line(error)
    rest = (
        f"remove the unfinished '{left}'" if left is not None and os.path.lexists(left) else "nothing was left behind"
    )
    return OutputError(f"'{path}' cannot be written ({reason}); free some space or choose another folder, and {rest}.")


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one and the system allows it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
