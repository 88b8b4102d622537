"""A package: a folder with one trained network and everything that is needed to use it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affuse import weights
from affuse.errors import AssetError, ConfigError
from affuse.labels import EKMAN, LabelSpace
from affuse.packages.description import MODEL, PackageDescription, check_complete
from affuse.packages.folder import DESCRIPTION, read_description, replacing_package, seal

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["Package", "read_package", "set_label_map", "write_package"]


@dataclass(frozen=True)
class Package:
    """A folder that was found to hold what its description says.

    Attributes
    ----------
    folder : Path
        Where it is.
    description : PackageDescription
        What it says about itself.

    Examples
    --------
    >>> from affuse.testing import write_toy_package
    >>> package = read_package(write_toy_package("mine"))
    >>> package.description.modality, package.description.labels.labels
    ('voice', ('happiness', 'sadness'))
    """

    folder: Path
    description: PackageDescription

    @property
    def sha256(self) -> dict[str, str]:
        """Checksums by name of all files, the description included."""
        return {DESCRIPTION: weights.sha256_of(self.folder / DESCRIPTION), **self.description.files}

    @cached_property
    def session(self) -> InferenceSession:
        """The network, whose inputs and outputs fit the description. Raises AssetError where they do not."""
        session = weights.session(self.folder / MODEL, self.description.files)
        _check_network(session, self.description, self.folder / MODEL)
        return session

    def path(self, name: str) -> Path:
        """Place of one of its files.

        Parameters
        ----------
        name : str
            Name of the file.

        Returns
        -------
        Path

        Raises
        ------
        AssetError
            If the package holds none of that name.
        """
        if name not in self.description.files:
            raise AssetError(f"{self.folder} holds no {name}")
        return self.folder / name

    def run(self, output: str, **inputs: np.ndarray) -> np.ndarray:
        """One output of the network.

        Parameters
        ----------
        output : str
            "probabilities" or "embedding".
        **inputs : array
            By the names of its inputs; n rows each.

        Returns
        -------
        array of shape (n, n_labels) or (n, d), float64
        """
        (values,) = self.session.run([output], inputs)
        return np.asarray(values, dtype=float)


def write_package(folder: str | Path, description: PackageDescription, files: Mapping[str, Path | bytes]) -> Path:
    """Write a package, which appears whole or not at all.

    A package that is there is replaced; any other folder that is not empty is left alone.

    Parameters
    ----------
    folder : str or Path
        Where to write.
    description : PackageDescription
        What it says about itself; ``files``, ``affuse`` and ``created`` are filled in.
    files : mapping of str to Path or bytes
        What goes into it by name; paths are copied. "model.onnx" is needed, and "tokenizer.json" for words.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ConfigError
        If the description does not fit the files.
    AssetError
        If the network does not fit the description.
    OutputError
        If the folder cannot be written.

    Examples
    --------
    >>> from affuse.testing import write_toy_package
    >>> package = read_package(write_toy_package("mine"))
    >>> again = write_package("copy", package.description, {"model.onnx": package.path("model.onnx")})
    >>> read_package(again).description.files == package.description.files
    True
    """
    folder = Path(folder)
    with replacing_package(folder) as place:
        _fill(place, description, files)
    return folder


def read_package(folder: str | Path) -> Package:
    """Read the description of a package and check every file against it.

    Parameters
    ----------
    folder : str or Path
        As ``affuse train`` writes it.

    Returns
    -------
    Package

    Raises
    ------
    AssetError
        If a file is missing, was changed, or the description is not one that this affuse reads.

    Examples
    --------
    >>> from affuse.testing import write_toy_package
    >>> read_package(write_toy_package("mine")).description.name
    'toy'
    """
    folder = Path(folder)
    return Package(folder, read_description(folder, PackageDescription, "affuse train"))


def set_label_map(folder: str | Path, onto: Mapping[str, str]) -> Package:
    """Store in a package what its own labels mean among the emotions, so that it can be fused with other experts.

    Parameters
    ----------
    folder : str or Path
        A package, which is replaced as a whole.
    onto : mapping of str to str
        One of `affuse.EKMAN` by own label; empty to forget the map.

    Returns
    -------
    Package
        As it is now.

    Raises
    ------
    ConfigError
        If the package has no such label, or a goal is no emotion.
    AssetError, OutputError
        As of `read_package` and `write_package`.

    Examples
    --------
    >>> from affuse.testing import write_toy_package
    >>> folder = write_toy_package("mine", LabelSpace("study", ("engaged", "frustrated")))
    >>> set_label_map(folder, {"engaged": "happiness", "frustrated": "anger"}).description.labels.onto["engaged"]
    'happiness'
    """
    package = read_package(folder)
    own = package.description.labels
    labels = LabelSpace(own.name, own.labels, dict(onto))
    for label, goal in onto.items():
        if goal not in EKMAN.labels:
            raise ConfigError(f"the label map sends {label} to {goal!r}; known: {', '.join(EKMAN.labels)}")
    files = {name: package.path(name).read_bytes() for name in package.description.files}
    write_package(folder, replace(package.description, labels=labels, files={}), files)
    return read_package(folder)


def _fill(place: Path, description: PackageDescription, files: Mapping[str, Path | bytes]) -> None:
    """Write a whole package to ``place`` and read it as a user would."""
    check_complete(description, files)
    # Checks the names before anything is written under them.
    description = replace(description, files=dict.fromkeys(sorted(files), "0" * 64))
    for name, content in files.items():
        if isinstance(content, bytes):
            (place / name).write_bytes(content)
        else:
            shutil.copyfile(content, place / name)
    full = seal(place, description)
    _check_network(weights.session(place / MODEL, full.files), full, Path(MODEL))


def _check_network(session: InferenceSession, description: PackageDescription, path: Path) -> None:
    inputs = {i.name for i in session.get_inputs()}
    wanted = _input_names(description)
    if inputs != wanted:
        raise AssetError(f"{path} reads {_listed(inputs)}, but its description says {_listed(wanted)}")
    outputs = {o.name: o.shape for o in session.get_outputs()}
    if not {"probabilities", "embedding"} <= set(outputs):
        raise AssetError(f"{path} answers {_listed(set(outputs))}; a package answers embedding, probabilities")
    k = outputs["probabilities"][-1]
    if isinstance(k, int) and k != len(description.labels):
        raise AssetError(f"{path} answers {k} classes, but its description names {len(description.labels)} labels")


def _input_names(description: PackageDescription) -> set[str]:
    names: set[str] = {"present"} if description.kind == "joint" else set()
    for block in description.reads:
        names |= {"tokens": {"ids", "mask"}, "frames": {"frames", "lengths"}}.get(block, {block})
    return names


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
