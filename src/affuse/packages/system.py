"""A whole system in one folder: experts, what the fuser has learned, licences, and what says that they are unharmed.

``bundle.json`` of kind "system" names for every modality either the weights of a shipped expert or the folder of an
expert's own bundle, and the SHA-256 of every file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse import weights
from affuse.errors import AssetError, ConfigError
from affuse.experts.base import Expert
from affuse.packages.description import FORMAT
from affuse.packages.folder import DESCRIPTION, check_files

if TYPE_CHECKING:
    from affuse.experts.face import FaceDetector
    from affuse.packages.columns import FeatureTable

__all__ = ["FUSER", "NAMES", "OwnWeights", "System", "SystemDescription", "is_system", "kind_of", "read_system", "seal"]

FUSER = "fuser"  # folder
_FUSER_CARD = f"{FUSER}/fuser.json"
_FUSER_FILE = "fuser.json"  # of systems that were exported when a fuser was a single file

_KIND = "system"
_FILE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class OwnWeights:
    """Weights of a shipped expert: their file in the folder, version, licence, and how their numbers are stored."""

    file: str
    version: str
    licence: str
    precision: str


@dataclass(frozen=True)
class SystemDescription:
    """What a system says about itself.

    Parameters
    ----------
    target: what it was exported to: "onnx", "onnx-int8" or "tensorrt".
    weights: those of shipped experts, by modality and then by name.
    bundles: folder of an expert's own bundle, by modality.
    files: SHA-256 (hex) by name of every file beside bundle.json; names have at most one folder.
    affuse, created: the version that wrote it, and when (UTC, ISO 8601).

    Raises ConfigError where parts do not fit together.
    """

    target: str
    weights: Mapping[str, Mapping[str, OwnWeights]]
    bundles: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    affuse: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        for name, digest in self.files.items():
            # No parents, no drive letters: a bundle from elsewhere must not reach beyond its own folder.
            if not _FILE.fullmatch(name) or name == DESCRIPTION:
                raise ConfigError(f"{name!r} cannot be a file of a system")
            if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
                raise ConfigError(f"the SHA-256 of {name} must be 64 hexadecimal digits; got {digest!r}")
        needed = [] if _FUSER_FILE in self.files else [_FUSER_CARD]
        needed += [own.file for expert in self.weights.values() for own in expert.values()]
        needed += [f"{folder}/{DESCRIPTION}" for folder in self.bundles.values()]
        missing = [name for name in needed if name not in self.files]
        if missing:
            raise ConfigError(f"the checksum of {missing[0]} is missing")
        for modality, names in {m: set(own) for m, own in self.weights.items()}.items():
            if names != NAMES.get(modality):
                known = "; ".join(f"{m}: {', '.join(sorted(n))}" for m, n in NAMES.items())
                raise ConfigError(f"{modality} cannot have the weights {', '.join(sorted(names))}; known: {known}")

    @property
    def modalities(self) -> tuple[str, ...]:
        """What is read: the order in which results name it."""
        own = {*self.weights, *self.bundles}
        return (*(m for m in NAMES if m in own), *sorted(own - set(NAMES)))

    def to_json(self) -> str:
        """The text of bundle.json."""
        experts: dict[str, Any] = {
            modality: {"weights": {name: vars(own) for name, own in names.items()}}
            for modality, names in self.weights.items()
        }
        fields = {
            "format": FORMAT,
            "kind": _KIND,
            "target": self.target,
            "experts": experts | {modality: {"bundle": folder} for modality, folder in self.bundles.items()},
            "fuser": FUSER,
            "affuse": self.affuse,
            "created": self.created,
            "files": dict(self.files),
        }
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SystemDescription:
        """Read what `to_json` wrote. Raises AssetError where it is of another kind or format, or does not fit."""
        try:
            fields = json.loads(text)
            if fields["kind"] != _KIND or fields["format"] != FORMAT:
                raise AssetError(f"it is a {fields['kind']} of format {fields['format']}, not a system of {FORMAT}")
            experts = fields["experts"]
            return cls(
                target=str(fields["target"]),
                weights={
                    m: {str(name): OwnWeights(**own) for name, own in entry["weights"].items()}
                    for m, entry in experts.items()
                    if "weights" in entry
                },
                bundles={m: str(entry["bundle"]) for m, entry in experts.items() if "bundle" in entry},
                files=fields["files"],
                affuse=str(fields["affuse"]),
                created=str(fields["created"]),
            )
        except KeyError as error:
            raise AssetError(f"its entry {error} is missing") from error
        except (ConfigError, TypeError, ValueError, AttributeError) as error:
            raise AssetError(f"it does not hold together: {error}") from error


NAMES = {"face": {"face"}, "voice": {"voice"}, "text": {"text_en", "text_zh"}}
"""The weights of every shipped expert, by modality."""


@dataclass(frozen=True)
class System:
    """A folder that was found to hold what its description says."""

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
        """Its experts by modality; ``language`` of the words, ``features`` for a joint one, ``detector`` of faces.

        Raises ConfigError for an unknown language or a table that no expert reads, AssetError where a part is not
        what it should be.
        """
        if features is not None and "joint" not in self.description.bundles:
            raise ConfigError(f"no expert of {self.folder} reads a table of features; a joint one may")
        return {
            modality: self._expert(modality, language, features, detector) for modality in self.description.modalities
        }

    def _expert(
        self, modality: str, language: str | None, features: FeatureTable | None, detector: FaceDetector | None
    ) -> Expert:
        from affuse.experts.face import FaceExpert  # brings OpenCV
        from affuse.experts.text import TextExpert
        from affuse.experts.voice import VoiceExpert

        if modality in self.description.bundles:
            return self._bundled(modality, features, detector)
        own = {name: self.folder / w.file for name, w in self.description.weights[modality].items()}
        if modality == "face":
            return FaceExpert(detector, model=own["face"])
        if modality == "voice":
            return VoiceExpert(own["voice"])
        return TextExpert(language, own["text_en"], own["text_zh"])

    def _bundled(self, modality: str, features: FeatureTable | None, detector: FaceDetector | None) -> Expert:
        from affuse.packages import load_bundle

        given = {"features": features if modality == "joint" else None, "detector": detector}
        options = {name: value for name, value in given.items() if value is not None and modality in ("joint", "face")}
        expert: Expert = load_bundle(self.folder / self.description.bundles[modality], **options)
        return expert


def kind_of(folder: str | Path) -> str | None:
    """The kind that a folder's bundle.json states; None where there is none, or it is not readable."""
    try:
        fields = json.loads((Path(folder) / DESCRIPTION).read_text(encoding="utf-8"))
        return str(fields["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_system(folder: str | Path) -> bool:
    """Whether a folder says that it holds a whole system, rather than one expert."""
    return kind_of(folder) == _KIND


def read_system(folder: str | Path) -> System:
    """Read a system's description and check every file against it.

    Raises AssetError where a file is missing, was changed, or the description is not one that this affuse reads.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not path.is_file():
        raise AssetError(f"{folder} is no bundle: it holds no {DESCRIPTION}; give the folder that affuse export wrote")
    if not is_system(folder) and kind_of(folder) is not None:
        raise AssetError(
            f"{folder} holds a single expert, not a whole system; ask it with --experts MODALITY={folder}, "
            "or put it into a system: affuse export --experts"
        )
    try:
        description = SystemDescription.from_json(path.read_text(encoding="utf-8"))
    except (AssetError, OSError, UnicodeDecodeError) as error:
        raise AssetError(f"{path} cannot be used: {error}") from error
    check_files(folder, description.files)
    return System(folder, description)


def seal(
    place: Path, target: str, own: Mapping[str, Mapping[str, OwnWeights]], bundles: Mapping[str, str]
) -> SystemDescription:
    """Write the bundle.json of a system whose files all lie in ``place`` by now, with the checksum of each."""
    import affuse

    names = sorted(p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file())
    files = {name: weights.sha256_of(place / name) for name in names if name != DESCRIPTION}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    description = SystemDescription(target, own, bundles, files, affuse.__version__, created)
    (place / DESCRIPTION).write_text(description.to_json(), encoding="utf-8")
    return description
