"""Folders of models on disk: written whole or not at all, and read only as they were written.

``bundle.json`` describes what is in the folder and names the SHA-256 of every file. Its ``kind`` tells a single network
("expert", "joint") from a whole system.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from affuse import weights
from affuse.errors import AssetError, ConfigError, OutputError

__all__ = [
    "DESCRIPTION",
    "EXPERT_KINDS",
    "FORMAT",
    "SYSTEM_KIND",
    "Description",
    "check_file_names",
    "check_files",
    "describes",
    "is_package",
    "is_system",
    "kind_of",
    "read_description",
    "replacing_package",
    "seal",
]

DESCRIPTION = "bundle.json"
FORMAT = 1
EXPERT_KINDS = ("expert", "joint")
SYSTEM_KIND = "system"

# At most one folder, no parents, no drive letters: a package from elsewhere must not reach beyond its own folder.
_FILE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Description(Protocol):
    """What a description of either kind has: a frozen dataclass that goes to JSON and back."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def files(self) -> Mapping[str, str]:
        """SHA-256 by name of every file beside the description."""

    @property
    def affuse(self) -> str:
        """The version that wrote it."""

    @property
    def created(self) -> str:
        """When, in UTC."""

    def to_json(self) -> str:
        """Text of the file."""

    @classmethod
    def from_json(cls, text: str) -> Any:
        """Read what `to_json` wrote."""


D = TypeVar("D", bound=Description)


# --- what a folder says that it is ----------------------------------------------------------------------------------


def is_package(path: str | Path) -> bool:
    """Whether a path is a folder with a description of a package, right or wrong.

    Parameters
    ----------
    path : str or Path
        Any path.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_package("nowhere")
    False
    """
    return (Path(path) / DESCRIPTION).is_file()


def kind_of(folder: str | Path) -> str | None:
    """The kind that the description of a folder states; None where there is none, or it is not readable."""
    try:
        fields = json.loads((Path(folder) / DESCRIPTION).read_text(encoding="utf-8"))
        return str(fields["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_system(folder: str | Path) -> bool:
    """Whether a folder says that it holds a whole system, rather than one expert.

    Parameters
    ----------
    folder : str or Path
        Any path.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_system("nowhere")
    False
    """
    return kind_of(folder) == SYSTEM_KIND


# --- reading --------------------------------------------------------------------------------------------------------


def describes(text: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    """The entries of a description of one of some kinds. Raises AssetError where it is of another kind or format."""
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise AssetError(f"it is not JSON ({error})") from error
    if not isinstance(fields, dict) or "format" not in fields:
        raise AssetError("it does not describe a package: it has no format")
    if fields["format"] != FORMAT:
        raise AssetError(f"it is of format {fields['format']!r}; this affuse reads format {FORMAT}")
    kind = fields.get("kind")
    if kind not in kinds:
        if kind == SYSTEM_KIND:
            raise AssetError("it describes a whole system, not one expert; use it by --package")
        raise AssetError(f"it describes a {kind}; expected {' or '.join(kinds)}")
    return fields


def read_description(folder: Path, kind: type[D], writer: str) -> D:
    """The description of a folder, its files checked.

    ``writer`` is the command that writes such folders, for messages. Raises AssetError where a file is missing or was
    changed, or the description is not one that this affuse reads.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        inner = folder / "package"  # of the folder of a training
        right = f"{inner}, which is one" if is_package(inner) else f"the folder that {writer} wrote"
        raise AssetError(f"{folder} is no package: it holds no {DESCRIPTION}; give {right}")
    try:
        description: D = kind.from_json(path.read_text(encoding="utf-8"))
    except (AssetError, ConfigError, OSError, UnicodeDecodeError) as error:
        raise AssetError(f"{path} cannot be used: {error}") from error
    check_files(folder, description.files)
    return description


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise AssetError where one of ``files``, SHA-256 by name, is missing in ``folder`` or was changed."""
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise AssetError(f"{folder / name} is missing; copy the package again")
        found = weights.sha256_of(folder / name)
        if found != expected:
            raise AssetError(
                f"{folder / name} has the wrong checksum: expected SHA-256 {expected}, found {found}; "
                "copy the package again"
            )
        weights.state_checksum(folder / name, expected)


def check_file_names(files: Mapping[str, str], what: str, folders: bool = False) -> None:
    """Raise ConfigError where names or checksums of files cannot be those of a package."""
    for name, digest in files.items():
        if not _FILE.fullmatch(name) or name == DESCRIPTION or ("/" in name and not folders):
            raise ConfigError(f"{name!r} cannot be a file of a {what}; letters, digits, '.', '_' and '-' make a name")
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ConfigError(f"the SHA-256 of {name} must be 64 hexadecimal digits; got {digest!r}")


# --- writing --------------------------------------------------------------------------------------------------------


def seal(place: Path, description: D) -> D:
    """Write the description of a folder whose files all lie there by now, with the checksum of each."""
    import affuse

    names = sorted(p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file())
    files = {name: weights.sha256_of(place / name) for name in names if name != DESCRIPTION}
    created = description.created or datetime.now(UTC).isoformat(timespec="seconds")
    full: D = replace(description, files=files, affuse=description.affuse or affuse.__version__, created=created)
    (place / DESCRIPTION).write_text(full.to_json(), encoding="utf-8")
    return full


@contextmanager
def replacing_package(folder: Path) -> Iterator[Path]:
    """Yield a place beside ``folder`` that takes its place on success, and vanishes on failure.

    A package that is there is replaced. Raises OutputError where another folder that is not empty is, or where it
    cannot be written.
    """
    if folder.exists() and not is_package(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is there and is no package; choose another place, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent) as place:
            new = Path(place) / "new"
            new.mkdir()
            yield new
            _exchange(folder, new, Path(place) / "old")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error


def _exchange(folder: Path, new: Path, old: Path) -> None:
    """Put ``new`` in the place of ``folder``, which becomes ``old``, or stays where that fails."""
    if not folder.exists():
        new.replace(folder)
        return
    folder.replace(old)  # no system call exchanges two folders everywhere
    try:
        new.replace(folder)
    except BaseException:
        old.replace(folder)
        raise
