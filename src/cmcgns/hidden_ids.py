"""Ids of images and patients in results: hashed with a secret key, so that nobody without it can try ids out.

The key is drawn at random for each profile that reads downloads, and stays with the data; for synthetic worlds, which have no
secrets, it is always the same. Nothing that travels with results holds it or anything that it could be computed from: a key that
is the hash of a file would stand in the ledger.
"""

import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from cmcgns.errors import InputError
from cmcgns.files import atomic

BYTES = 32
OPEN = bytes(BYTES).hex()  # of synthetic worlds


def hashed(name: str, key: str) -> str:
    """16 hex digits in place of an id."""
    return hmac.new(key.encode(), name.encode(), sha256).hexdigest()[:16]


def write_key(*, random: bool, out: Path) -> None:
    """The step `key`: 32 bytes in hex, readable for their owner only."""
    with atomic(out) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{secrets.token_hex(BYTES) if random else OPEN}\n")


def read_key(path: Path) -> str:
    """A key as `write_key` has written it.

    Raises:
        InputError: it is none.
    """
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if len(text) != 2 * BYTES or set(text) - set("0123456789abcdef"):
        raise InputError(
            "this is no key of hidden ids", file=path, expected=f"{2 * BYTES} hex digits",
            remedy="remove it: a new one is made, and ids get other hashes",
        )  # fmt: skip
    return text
