"""Bundles on disk: written whole or not at all, and read only as they were written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affuse import weights
from affuse.errors import AssetError, ConfigError, OutputError
from affuse.packages.description import MODEL, BundleDescription

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["DESCRIPTION", "Bundle", "check_files", "is_bundle", "read_bundle", "replacing_bundle", "write_bundle"]

DESCRIPTION = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """A folder that was found to hold what its description says."""

    folder: Path
    description: BundleDescription

    @property
    def sha256(self) -> dict[str, str]:
        """Checksums by name of all files, the description included."""
        return {DESCRIPTION: weights.sha256_of(self.folder / DESCRIPTION), **self.description.files}

    @cached_property
    def session(self) -> InferenceSession:
        """The network, whose inputs and outputs fit the description. Raises AssetError where they do not."""
        session = weights.session(self.folder / MODEL)
        _check_network(session, self.description, self.folder / MODEL)
        return session

    def path(self, name: str) -> Path:
        """Place of one of its files. Raises AssetError where the bundle holds none of that name."""
        if name not in self.description.files:
            raise AssetError(f"{self.folder} holds no {name}")
        return self.folder / name

    def run(self, output: str, **inputs: np.ndarray) -> np.ndarray:
        """One output of the network, "probabilities" (n, k) or "embedding" (n, d), as float64."""
        (values,) = self.session.run([output], inputs)
        return np.asarray(values, dtype=float)


def is_bundle(path: str | Path) -> bool:
    """Whether a path is a folder with a description of a bundle, right or wrong."""
    return (Path(path) / DESCRIPTION).is_file()


def write_bundle(folder: str | Path, description: BundleDescription, files: Mapping[str, Path | bytes]) -> Path:
    """Write ``files`` (paths are copied) and bundle.json to ``folder``, which appears whole or not at all.

    A bundle that is there is replaced; any other folder that is not empty is left alone. Raises ConfigError where the
    description does not fit the files, AssetError where the network does not fit the description, and OutputError where
    the folder cannot be written.
    """
    folder = Path(folder)
    with replacing_bundle(folder) as place:
        _fill(place, description, files)
    return folder


@contextmanager
def replacing_bundle(folder: Path) -> Iterator[Path]:
    """Yield a place beside ``folder`` that takes its place on success, and vanishes on failure.

    A bundle that is there is replaced. Raises OutputError where another folder that is not empty is, or where it cannot
    be written.
    """
    if folder.exists() and not is_bundle(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is there and is no bundle; choose another place, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent) as place:
            new = Path(place) / "new"
            new.mkdir()
            yield new
            _exchange(folder, new, Path(place) / "old")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error


def read_bundle(folder: str | Path) -> Bundle:
    """Read a bundle's description and check every file against it.

    Raises AssetError where a file is missing, was changed, or the description is not one that this affuse reads.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not path.is_file():
        raise AssetError(f"{folder} is no bundle: it holds no {DESCRIPTION}; give the folder that affuse train wrote")
    try:
        description = BundleDescription.from_json(path.read_text(encoding="utf-8"))
        _check_names(description, description.files)
    except (AssetError, ConfigError, OSError, UnicodeDecodeError) as error:
        raise AssetError(f"{path} cannot be used: {error}") from error
    check_files(folder, description.files)
    return Bundle(folder, description)


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise AssetError where one of ``files``, SHA-256 by name, is missing in ``folder`` or was changed."""
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise AssetError(f"{folder / name} is missing; copy the bundle again")
        found = weights.sha256_of(folder / name)
        if found != expected:
            raise AssetError(
                f"{folder / name} has the wrong checksum: expected SHA-256 {expected}, found {found}; "
                "copy the bundle again"
            )


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


def _fill(place: Path, description: BundleDescription, files: Mapping[str, Path | bytes]) -> None:
    """Write a whole bundle to ``place`` and read it as a user would."""
    import affuse

    _check_names(description, files)
    digests = dict.fromkeys(sorted(files), "0" * 64)
    description = replace(description, files=digests)  # checks the names before anything is written under them
    for name, content in files.items():
        if isinstance(content, bytes):
            (place / name).write_bytes(content)
        else:
            shutil.copyfile(content, place / name)
        digests[name] = weights.sha256_of(place / name)
    created = description.created or datetime.now(UTC).isoformat(timespec="seconds")
    full = replace(description, files=digests, affuse=description.affuse or affuse.__version__, created=created)
    (place / DESCRIPTION).write_text(full.to_json(), encoding="utf-8")
    _check_network(weights.session(place / MODEL), full, Path(MODEL))


def _check_names(description: BundleDescription, files: Mapping[str, object]) -> None:
    needed = [MODEL, *([description.tokenizer] if description.tokenizer else [])]
    missing = [name for name in needed if name not in files]
    if missing:
        raise ConfigError(f"a bundle that reads {', '.join(description.reads)} needs {' and '.join(missing)}")


def _check_network(session: InferenceSession, description: BundleDescription, path: Path) -> None:
    inputs = {i.name for i in session.get_inputs()}
    wanted = _input_names(description)
    if inputs != wanted:
        raise AssetError(f"{path} reads {_listed(inputs)}, but its description says {_listed(wanted)}")
    outputs = {o.name: o.shape for o in session.get_outputs()}
    if not {"probabilities", "embedding"} <= set(outputs):
        raise AssetError(f"{path} answers {_listed(set(outputs))}; a bundle answers embedding, probabilities")
    k = outputs["probabilities"][-1]
    if isinstance(k, int) and k != len(description.labels):
        raise AssetError(f"{path} answers {k} classes, but its description names {len(description.labels)} labels")


def _input_names(description: BundleDescription) -> set[str]:
    names: set[str] = {"present"} if description.kind == "joint" else set()
    for block in description.reads:
        names |= {"tokens": {"ids", "mask"}, "frames": {"frames", "lengths"}}.get(block, {block})
    return names


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
