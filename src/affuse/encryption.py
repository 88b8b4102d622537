"""Encryption at rest: keys from a passphrase or a key file, and files and texts sealed by AES-256-GCM."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from affuse.errors import ConfigError, DataError
from affuse.lazy import needs_extra

__all__ = ["SCRYPT", "Sealer", "derive_key", "new_salt", "read_key_file"]

SCRYPT = {"n": 2**16, "r": 8, "p": 1}
"""Cost of scrypt: 64 MB and some tenths of a second."""

_MEMORY = 2**27  # bytes that scrypt may take
_SHORTEST = 8  # characters of a key

_MAGIC = b"AFFUSE1\n"
_NONCE, _TAG = 12, 16
_PIECE = 1 << 20


def read_key_file(path: str | Path) -> str:
    """Read a key: the text of a file, without white space around it.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        If the file cannot be read, is no text, or holds fewer than 8 characters.

    Examples
    --------
    >>> _ = Path("key.txt").write_text("correct horse battery staple\\n")
    >>> read_key_file("key.txt")
    'correct horse battery staple'
    """
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the key file {path} cannot be read: {error}") from error
    if len(key) < _SHORTEST:
        raise ConfigError(f"a key needs at least {_SHORTEST} characters; {path} has {len(key)}")
    return key


def new_salt() -> bytes:
    """Draw a salt for `derive_key`.

    Returns
    -------
    bytes
        16 of them.

    Examples
    --------
    >>> len(new_salt())
    16
    """
    return os.urandom(16)


def derive_key(key: str, salt: bytes, cost: Mapping[str, int]) -> bytes:
    """Derive 32 bytes from a text by scrypt (RFC 7914).

    Parameters
    ----------
    key : str
    salt : bytes
    cost : mapping
        ``n``, ``r`` and ``p``; see `SCRYPT`.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If the cost is no cost of scrypt, or takes more than 128 MB.

    Examples
    --------
    >>> derive_key("secret", bytes(16), {"n": 2, "r": 8, "p": 1}).hex()[:8]
    '06412461'
    """
    n, r, p = (int(cost[name]) for name in ("n", "r", "p"))
    return hashlib.scrypt(key.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=32)


class Sealer:
    """Encrypts and authenticates files and texts by AES-256-GCM (NIST SP 800-38D).

    What is sealed is bound to a name: under another name it does not open. Each file and each text has a nonce of its
    own, drawn at random.

    Parameters
    ----------
    key : bytes
        32 of them.

    Raises
    ------
    MissingExtraError
        If ``cryptography`` is not installed.

    Examples
    --------
    >>> sealer = Sealer(bytes(32))
    >>> sealer.open_text(sealer.seal_text("Anna", "job 1"), "job 1")
    'Anna'
    >>> sealer.open_text(sealer.seal_text("Anna", "job 1"), "job 2")
    Traceback (most recent call last):
    affuse.errors.DataError: job 2: the key does not open it, or it was changed
    """

    def __init__(self, key: bytes) -> None:
        with needs_extra("serve"):
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._key, self._aead = key, AESGCM(key)

    def seal_text(self, text: str, name: str) -> str:
        """Encrypt a text.

        Parameters
        ----------
        text : str
        name : str
            What it belongs to.

        Returns
        -------
        str
            ASCII.
        """
        nonce = os.urandom(_NONCE)
        return base64.b64encode(nonce + self._aead.encrypt(nonce, text.encode(), name.encode())).decode()

    def open_text(self, sealed: str, name: str) -> str:
        """Decrypt what `seal_text` made.

        Parameters
        ----------
        sealed : str
        name : str
            What it belongs to.

        Returns
        -------
        str

        Raises
        ------
        DataError
            If the key or the name is another, or the text was changed.
        """
        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._aead.decrypt(raw[:_NONCE], raw[_NONCE:], name.encode()).decode()
        except (ValueError, InvalidTag) as error:
            raise _closed(name) from error

    def seal_file(self, source: BinaryIO, target: BinaryIO, name: str) -> None:
        """Encrypt a stream, a megabyte at a time.

        Parameters
        ----------
        source, target : binary files
        name : str
            What it belongs to.
        """
        nonce = os.urandom(_NONCE)
        encryptor = self._cipher(nonce).encryptor()
        encryptor.authenticate_additional_data(name.encode())
        target.write(_MAGIC + nonce)
        while piece := source.read(_PIECE):
            target.write(encryptor.update(piece))
        target.write(encryptor.finalize() + encryptor.tag)

    def open_file(self, source: Path, target: BinaryIO, name: str) -> None:
        """Decrypt what `seal_file` made; what is written counts only once this returns.

        Parameters
        ----------
        source : Path
        target : binary file
        name : str
            What it belongs to.

        Raises
        ------
        DataError
            If the key or the name is another, or the file was changed.
        """
        from cryptography.exceptions import InvalidTag

        left = source.stat().st_size - len(_MAGIC) - _NONCE - _TAG
        with source.open("rb") as file:
            if left < 0 or file.read(len(_MAGIC)) != _MAGIC:
                raise _closed(name)
            decryptor = self._cipher(file.read(_NONCE)).decryptor()
            decryptor.authenticate_additional_data(name.encode())
            while left and (piece := file.read(min(_PIECE, left))):
                target.write(decryptor.update(piece))
                left -= len(piece)
            try:
                decryptor.finalize_with_tag(file.read(_TAG))
            except (InvalidTag, ValueError) as error:
                raise _closed(name) from error

    def _cipher(self, nonce: bytes) -> Any:
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.ciphers.modes import GCM

        return Cipher(AES(self._key), GCM(nonce))


def _closed(name: str) -> DataError:
    return DataError(f"{name}: the key does not open it, or it was changed")
