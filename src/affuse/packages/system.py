"""A whole system in one folder: experts, what the fuser has learned, licences, and what says that they are unharmed.

Its description, of kind "system", names for every modality either the weights of a shipped expert or the folder of an
expert's own package, and the SHA-256 of every file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from affuse.errors import AssetError, ConfigError
from affuse.experts.base import Expert
from affuse.packages.folder import (
    DESCRIPTION,
    FORMAT,
    SYSTEM_KIND,
    check_file_names,
    describes,
    is_system,
    kind_of,
    read_description,
)
from affuse.weight_sets import COMMERCIAL, MIXED, RESEARCH, SETS

if TYPE_CHECKING:
    from affuse.experts.face import FaceDetector
    from affuse.packages.columns import FeatureTable

__all__ = ["FUSER", "NAMES", "OwnWeights", "Part", "System", "SystemDescription", "read_system"]

FUSER = "fuser"  # folder
_FUSER_CARD = f"{FUSER}/fuser.json"
_FUSER_FILE = "fuser.json"  # of systems that were exported when a fuser was a single file

NAMES = {
    RESEARCH: {"face": {"face"}, "voice": {"voice"}, "text": {"text_en", "text_multi", "text_zh"}},
    COMMERCIAL: {"face": {"face_commercial"}, "voice": {"voice_commercial"}, "text": {"text_commercial"}},
}
"""The weights of every shipped expert, by set and then by modality."""


@dataclass(frozen=True)
class OwnWeights:
    """Weights of a shipped expert: their file in the folder, version, licence, and how their numbers are stored."""

    file: str
    version: str
    licence: str
    precision: str


@dataclass(frozen=True)
class Part:
    """What one may do with something in the folder: networks, what they share, the fuser.

    ``commercial`` and ``data`` are as in `affuse.weights.Shipped`.
    """

    name: str
    licence: str
    version: str = ""
    commercial: str = ""
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class SystemDescription:
    """What a system says about itself.

    Parameters
    ----------
    target : str
        What it was exported to: "onnx", "onnx-int8" or "tensorrt".
    weights : mapping of str to mapping of str to OwnWeights
        Those of shipped experts, by modality and then by name.
    packages : mapping of str to str
        Folder of an expert's own package, by modality.
    files : mapping of str to str
        SHA-256 (hex) by name of every file beside the description; names have at most one folder.
    weight_set : str or None
        Set of affuse's weights that experts and fuser are of, as answers carry it: "research", "commercial", "mixed" or
        None.
    parts : sequence of Part
        Licences of what is inside; empty in a system of an earlier version.
    affuse, created : str
        The version that wrote it, and when (UTC, ISO 8601).

    Raises
    ------
    ConfigError
        If parts do not fit together.
    """

    what: ClassVar[str] = "system"

    target: str
    weights: Mapping[str, Mapping[str, OwnWeights]]
    packages: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    weight_set: str | None = None
    parts: Sequence[Part] = ()
    affuse: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        if self.files:  # empty before the folder is sealed
            check_file_names(self.files, self.what, folders=True)
            self._check_complete()
        if self.weight_set not in (None, MIXED, *SETS):
            raise ConfigError(f"unknown set of weights {self.weight_set!r}; known: {', '.join((*SETS, MIXED))}")
        for modality in self.weights:
            own = self.set_of(modality)
            if self.weight_set not in (MIXED, own):
                raise ConfigError(f"the weights of {modality} are of the {own} set, and the system is not")

    def set_of(self, modality: str) -> str:
        """The set that the weights of a shipped expert are of. Raises ConfigError where they are of none."""
        names = set(self.weights[modality])
        # A system of an earlier version lacks the multilingual words, which then are the shipped ones.
        found = [own for own, known in NAMES.items() if names and names <= known.get(modality, set())]
        if not found:
            known = "; ".join(f"{m}: {', '.join(sorted(n))}" for own in NAMES.values() for m, n in own.items())
            raise ConfigError(f"{modality} cannot have the weights {', '.join(sorted(names))}; known: {known}")
        return found[0]

    def _check_complete(self) -> None:
        needed = [] if _FUSER_FILE in self.files else [_FUSER_CARD]
        needed += [own.file for expert in self.weights.values() for own in expert.values()]
        needed += [f"{folder}/{DESCRIPTION}" for folder in self.packages.values()]
        missing = [name for name in needed if name not in self.files]
        if missing:
            raise ConfigError(f"the checksum of {missing[0]} is missing")

    @property
    def modalities(self) -> tuple[str, ...]:
        """What is read: the order in which results name it."""
        own = {*self.weights, *self.packages}
        known = NAMES[RESEARCH]
        return (*(m for m in known if m in own), *sorted(own - set(known)))

    def to_json(self) -> str:
        """Text of the file."""
        experts: dict[str, Any] = {
            modality: {"weights": {name: vars(own) for name, own in names.items()}}
            for modality, names in self.weights.items()
        }
        fields = {
            "format": FORMAT,
            "kind": SYSTEM_KIND,
            "target": self.target,
            "weights": self.weight_set,
            "experts": experts | {modality: {"bundle": folder} for modality, folder in self.packages.items()},
            "fuser": FUSER,
            "licences": [vars(part) for part in self.parts],
            "affuse": self.affuse,
            "created": self.created,
            "files": dict(self.files),
        }
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SystemDescription:
        """Read what `to_json` wrote. Raises AssetError where it is of another kind or format, or does not fit."""
        fields = describes(text, (SYSTEM_KIND,))
        try:
            experts = fields["experts"]
            found = cls(
                target=str(fields["target"]),
                weights={
                    m: {str(name): OwnWeights(**own) for name, own in entry["weights"].items()}
                    for m, entry in experts.items()
                    if "weights" in entry
                },
                packages={m: str(entry["bundle"]) for m, entry in experts.items() if "bundle" in entry},
                files=fields["files"],
                # Before there were two sets, it was the research set.
                weight_set=fields.get("weights", RESEARCH if any("weights" in e for e in experts.values()) else None),
                parts=tuple(Part(**part | {"data": tuple(part["data"])}) for part in fields.get("licences", ())),
                affuse=str(fields["affuse"]),
                created=str(fields["created"]),
            )
            found._check_complete()
            return found
        except KeyError as error:
            raise AssetError(f"its entry {error} is missing") from error
        except (ConfigError, TypeError, ValueError, AttributeError) as error:
            raise AssetError(f"it does not hold together: {error}") from error


@dataclass(frozen=True)
class System:
    """A folder with all experts and the fuser, which was found to hold what its description says.

    Attributes
    ----------
    folder : Path
        Where it is.
    description : SystemDescription
        What it says about itself.

    Examples
    --------
    >>> from affuse.exporting import export
    >>> from affuse.testing import write_toy_package
    >>> facts = export("shipped", "system", experts={"voice": str(write_toy_package("mine"))}, times=1)
    >>> sorted(read_system("system").experts())
    ['voice']
    """

    folder: Path
    description: SystemDescription

    @property
    def fuser(self) -> Path:
        """Place of the fuser, as `affuse.fusion.NamedFuser.read` reads it."""
        folder = self.folder / FUSER
        return folder if folder.is_dir() else self.folder / _FUSER_FILE

    def experts(
        self,
        language: str | None = None,
        features: FeatureTable | None = None,
        detector: FaceDetector | None = None,
    ) -> dict[str, Expert]:
        """Its experts by modality.

        Parameters
        ----------
        language : str, optional
            Code of the language of the words; recognised where None.
        features : FeatureTable, optional
            Numbers that a joint expert reads.
        detector : FaceDetector, optional
            What finds the faces.

        Returns
        -------
        dict of str to Expert

        Raises
        ------
        ConfigError
            If the language is not known, or no expert reads the table.
        AssetError
            If a part is not what it should be.
        """
        if features is not None and "joint" not in self.description.packages:
            raise ConfigError(f"no expert of {self.folder} reads a table of features; a joint one may")
        return {
            modality: self._expert(modality, features, detector).in_language(language)
            for modality in self.description.modalities
        }

    def _expert(self, modality: str, features: FeatureTable | None, detector: FaceDetector | None) -> Expert:
        from affuse.experts.face import FaceExpert  # brings OpenCV
        from affuse.experts.text import TextExpert
        from affuse.experts.voice import VoiceExpert

        if modality in self.description.packages:
            return self._packaged(modality, features, detector)
        own = {name: self.folder / w.file for name, w in self.description.weights[modality].items()}
        weight_set = self.description.set_of(modality)  # whatever set is in use here
        if modality == "text":
            return TextExpert(files=own, weight_set=weight_set)
        (path,) = own.values()
        if modality == "face":
            return FaceExpert(detector, model=path, weight_set=weight_set)
        return VoiceExpert(path, weight_set)

    def _packaged(self, modality: str, features: FeatureTable | None, detector: FaceDetector | None) -> Expert:
        from affuse.packages.loading import load_package

        given = {"features": features if modality == "joint" else None, "detector": detector}
        options = {name: value for name, value in given.items() if value is not None and modality in ("joint", "face")}
        return load_package(self.folder / self.description.packages[modality], **options)


def read_system(folder: str | Path) -> System:
    """Read the description of a system and check every file against it.

    Parameters
    ----------
    folder : str or Path
        As ``affuse export`` writes it.

    Returns
    -------
    System

    Raises
    ------
    AssetError
        If a file is missing, was changed, or the description is not one that this affuse reads.

    Examples
    --------
    >>> from affuse.exporting import export
    >>> from affuse.testing import write_toy_package
    >>> facts = export("shipped", "system", experts={"voice": str(write_toy_package("mine"))}, times=1)
    >>> read_system("system").description.target
    'onnx'
    """
    folder = Path(folder)
    if not is_system(folder) and kind_of(folder) is not None:
        raise AssetError(
            f"{folder} holds a single expert, not a whole system; ask it with --experts MODALITY={folder}, "
            "or put it into a system: affuse export --experts"
        )
    return System(folder, read_description(folder, SystemDescription, "affuse export"))
