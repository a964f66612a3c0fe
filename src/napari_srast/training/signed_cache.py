"""Cache lists of objects in signed files that only the same user's later runs load.

Pseudo-slides are nested objects, so they are pickled. Loading a pickle can run arbitrary code, and a work folder can
come with a recipe from an untrusted source. Each file therefore starts with a keyed digest (HMAC-SHA256) of its
content; the key is stored in the user's own settings. A file that another user wrote or that is damaged is never
unpickled; it is created again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle  # nosec B403 - only files that this user signed are loaded, see above
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["load_or_create"]

_DIGEST_SIZE = hashlib.sha256().digest_size


def load_or_create(path: Path, create: Callable[[], Iterable[Any]]) -> list[Any]:
    """Load a cached list, or create it and cache it.

    Parameters
    ----------
    path
        Cache file. Its folder must exist.
    create
        Function that returns the items. It is called if the file is missing, damaged or signed by another user.
    """
    key = _signing_key()
    if path.is_file():
        content = path.read_bytes()
        digest, payload = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
        if hmac.compare_digest(digest, hmac.digest(key, payload, "sha256")):
            return pickle.loads(payload)  # noqa: S301  # nosec B301 - signed by this user, see above
    items = list(create())
    payload = pickle.dumps(items)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    part.write_bytes(hmac.digest(key, payload, "sha256") + payload)
    part.replace(path)
    return items


def _signing_key() -> bytes:
    """Return this user's key; the first call creates it, readable by its owner only."""
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
