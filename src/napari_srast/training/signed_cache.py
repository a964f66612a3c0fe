"""What a long preparation made, kept in a file for the next run of this user and of nobody else.

Pseudo-slides are nested objects, so they are pickled, and unpickling a stranger's file would run a stranger's code: a
work folder may come with a recipe from anywhere. Each file therefore begins with a keyed digest (HMAC-SHA256) of the
rest, by a key that lies in this user's own settings. A file that this user did not write, or that was damaged, is made
anew and never opened.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle  # nosec B403 - only what this user wrote is loaded, see above
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["load_or_make"]

_DIGEST = hashlib.sha256().digest_size


def load_or_make(path: Path, make: Callable[[], Iterable[Any]]) -> list[Any]:
    """Return the list that an earlier call kept at ``path``; else make it, and keep it."""
    key = _key()
    if path.is_file():
        content = path.read_bytes()
        if hmac.compare_digest(content[:_DIGEST], hmac.digest(key, content[_DIGEST:], "sha256")):
            return pickle.loads(content[_DIGEST:])  # noqa: S301  # nosec B301 - written by this user, see above
    made = list(make())
    content = pickle.dumps(made)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    part.write_bytes(hmac.digest(key, content, "sha256") + content)
    part.replace(path)
    return made


def _key() -> bytes:
    """Return this user's key; it is made at the first call, readable by its owner alone."""
    import platformdirs

    file = platformdirs.user_config_path("napari-srast", ensure_exists=True) / "kept.key"
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_bytes()
    with os.fdopen(handle, "wb") as target:
        key = secrets.token_bytes(32)
        target.write(key)
    return key
