"""A folder of people who agreed to be recognised: embeddings by name, encrypted where a key is given."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affuse.encryption import SCRYPT, derive_key, new_salt
from affuse.errors import ConfigError, DataError
from affuse.files import replacing, write_json
from affuse.lazy import needs_extra
from affuse.people.identity import UNKNOWN, Identity

__all__ = ["Gallery", "Person"]

_CARD, _PLAIN, _ENCRYPTED = "gallery.json", "people.npz", "people.npz.fernet"
_FORMAT = 1
# OWASP's password storage cheat sheet: 64 MiB and about a quarter of a second a guess.


@dataclass(frozen=True, eq=False)
class Person:
    """What a gallery holds of one person.

    Parameters
    ----------
    faces : array of shape (n, 128)
        Embeddings of faces; n may be 0.
    voices : array of shape (m, 256)
        Embeddings of stretches of speech; m may be 0.

    Raises
    ------
    DataError
        If there is neither a face nor a voice, or a value is not finite.

    Examples
    --------
    >>> Person(np.zeros((2, 128)), np.empty((0, 256))).identity.voice is None
    True
    """

    faces: np.ndarray
    voices: np.ndarray

    def __post_init__(self) -> None:
        if self.faces.ndim != 2 or self.voices.ndim != 2 or not len(self.faces) + len(self.voices):
            raise DataError(
                "a person needs rows of faces or of voices; got arrays of shape "
                f"{self.faces.shape} and {self.voices.shape}"
            )
        if not (np.isfinite(self.faces).all() and np.isfinite(self.voices).all()):
            raise DataError("embeddings of a person must be finite")

    @property
    def identity(self) -> Identity:
        """Mean face and mean voice."""
        means = (rows.mean(axis=0) if len(rows) else None for rows in (self.faces, self.voices))
        return Identity(*means)


class Gallery:
    """People by name in a folder. Nothing is written before somebody is enrolled, and no picture or sound ever is.

    The folder holds ``gallery.json``, which says how it is kept, and one file with the names and embeddings: NumPy
    arrays without pickles, or the same bytes encrypted by Fernet (AES-128 in CBC mode with HMAC-SHA-256) under a key
    that scrypt derives. Every change writes that file anew, whole or not at all, so that nothing is left of somebody
    who was forgotten.

    Parameters
    ----------
    folder : str or Path
    key : str, optional
        Passphrase; the same one every time. Without it the embeddings lie open.

    Examples
    --------
    >>> gallery = Gallery("people")
    >>> gallery.enrol("Anna", faces=np.ones((3, 128)))
    >>> gallery.names
    ['Anna']
    >>> gallery.forget("Anna")
    >>> Gallery("people").names
    []
    """

    def __init__(self, folder: str | Path, key: str | None = None) -> None:
        self.folder = Path(folder)
        self.key = key

    @property
    def names(self) -> list[str]:
        """Who is in it, in order of the alphabet."""
        return sorted(self.people())

    def people(self) -> dict[str, Person]:
        """Everybody in it.

        Returns
        -------
        dict of str to Person
            Empty where the folder does not exist.

        Raises
        ------
        ConfigError
            If the key is missing, wrong, or not needed.
        DataError
            If the files are broken.
        MissingExtraError
            If it is encrypted and the extra ``people`` is not installed.

        Examples
        --------
        >>> Gallery("nowhere").people()
        {}
        """
        card = self._card()
        if card is None:
            return {}
        path = self.folder / (_ENCRYPTED if card["encrypted"] else _PLAIN)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        return _unpacked(self._opened(raw, card), path)

    def enrol(self, name: str, faces: np.ndarray | None = None, voices: np.ndarray | None = None) -> None:
        """Add embeddings of a person, who may be in it already.

        Parameters
        ----------
        name : str
        faces : array of shape (n, 128), optional
        voices : array of shape (m, 256), optional

        Raises
        ------
        ConfigError
            If the name is empty, "unknown" or has control characters, or the key does not fit.
        DataError
            If there is neither a face nor a voice.
        OutputError
            If the folder cannot be written.

        Examples
        --------
        >>> Gallery("people").enrol("unknown", faces=np.ones((1, 128)))
        Traceback (most recent call last):
        ...
        affuse.errors.ConfigError: 'unknown' cannot be the name of a person
        """
        if not name.strip() or not name.isprintable() or name == UNKNOWN:
            raise ConfigError(f"{name!r} cannot be the name of a person")
        people = self.people()
        before = people.get(name)
        parts = []
        for new, old, width in ((faces, before and before.faces, 128), (voices, before and before.voices, 256)):
            given = [rows for rows in (old, new) if rows is not None]
            parts.append(np.concatenate([np.empty((0, width)), *given]).astype(np.float32))
        people[name] = Person(*parts)
        self._write(people)

    def forget(self, name: str) -> None:
        """Remove a person; the last one takes the files along.

        Parameters
        ----------
        name : str

        Raises
        ------
        ConfigError
            If nobody has this name, or the key does not fit.
        OutputError
            If the folder cannot be written.

        Examples
        --------
        >>> Gallery("nowhere").forget("Anna")
        Traceback (most recent call last):
        ...
        affuse.errors.ConfigError: nobody in nowhere is called 'Anna'; there are: none
        """
        people = self.people()
        if name not in people:
            known = ", ".join(sorted(people)) or "none"
            raise ConfigError(f"nobody in {self.folder} is called {name!r}; there are: {known}")
        del people[name]
        if people:
            self._write(people)
            return
        for file in (_PLAIN, _ENCRYPTED, _CARD):
            (self.folder / file).unlink(missing_ok=True)

    def _card(self) -> dict[str, Any] | None:
        """What gallery.json says; None where there is none yet."""
        path = self.folder / _CARD
        if not path.is_file():
            return None
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            if card["format"] != _FORMAT or not isinstance(card["encrypted"], bool):
                raise ValueError(f"its format is {card['format']}, and {_FORMAT} is known")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no gallery of affuse: {error}") from error
        if card["encrypted"] and self.key is None:
            raise ConfigError(f"{self.folder} is encrypted; give its key (--key-file)")
        if not card["encrypted"] and self.key is not None:
            raise ConfigError(f"{self.folder} is not encrypted; leave the key out, or choose a new folder")
        return dict(card)

    def _opened(self, raw: bytes, card: Mapping[str, Any]) -> bytes:
        if not card["encrypted"]:
            return raw
        with needs_extra("people"):
            from cryptography.fernet import InvalidToken
        try:
            return bytes(self._fernet(card).decrypt(raw))
        except InvalidToken:
            raise ConfigError(f"the key does not open {self.folder}, or its file was changed") from None

    def _fernet(self, card: Mapping[str, Any]) -> Any:
        with needs_extra("people"):
            from cryptography.fernet import Fernet

        try:
            secret = derive_key(str(self.key), bytes.fromhex(card["salt"]), card["scrypt"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.folder / _CARD} does not say how the key is derived: {error}") from error
        return Fernet(base64.urlsafe_b64encode(secret))

    def _write(self, people: Mapping[str, Person]) -> None:
        card = self._card()
        if card is None:
            card = {"format": _FORMAT, "encrypted": self.key is not None}
            if self.key is not None:
                card |= {"salt": new_salt().hex(), "scrypt": SCRYPT}
            _check_key(self.key)
        raw = _packed(people)
        if card["encrypted"]:
            raw = self._fernet(card).encrypt(raw)
        new = not self.folder.exists()
        with replacing(self.folder / (_ENCRYPTED if card["encrypted"] else _PLAIN)) as (part,):
            if new:
                self.folder.chmod(0o700)  # for nobody else on this machine
            part.write_bytes(raw)
            part.chmod(0o600)
        write_json(self.folder / _CARD, card)


def _check_key(key: str | None) -> None:
    if key is not None and len(key) < 8:
        raise ConfigError(f"a key needs at least 8 characters; got {len(key)}")


def _packed(people: Mapping[str, Person]) -> bytes:
    arrays: dict[str, np.ndarray] = {"names": np.array(sorted(people), dtype=np.str_)}
    for i, name in enumerate(sorted(people)):
        arrays |= {f"faces_{i}": people[name].faces, f"voices_{i}": people[name].voices}
    buffer = io.BytesIO()
    save: Callable[..., None] = np.savez
    save(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _unpacked(raw: bytes, path: Path) -> dict[str, Person]:
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            names = [str(name) for name in arrays["names"]]
            return {name: Person(arrays[f"faces_{i}"], arrays[f"voices_{i}"]) for i, name in enumerate(names)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is broken: {error}") from error
