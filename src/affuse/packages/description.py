"""What a package says about itself: its ``bundle.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from affuse.errors import AssetError, ConfigError
from affuse.labels import LabelSpace
from affuse.packages.folder import EXPERT_KINDS, FORMAT, check_file_names, describes

__all__ = ["BLOCKS", "CARD", "MODEL", "TOKENIZER", "PackageDescription", "check_complete"]

MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
CARD = "card.md"

# What a network may read, the modality that it tells about, and what its entry in `inputs` must hold.
BLOCKS: dict[str, tuple[str | None, dict[str, type]]] = {
    "waveform": ("voice", {}),
    "images": ("face", {"size": int, "channels": int}),
    "clips": ("face", {"size": int, "frames": int}),
    "tokens": ("text", {"longest": int}),
    "columns": (None, {"names": list}),  # numbers that the user brings; they may tell about anything
    "frames": (None, {"features": int}),
    "landmarks": ("face", {"points": int}),
}

_ACTION_UNIT = re.compile(r"AU\d\d(_[rc])?")  # as OpenFace names them


@dataclass(frozen=True)
class PackageDescription:
    """What a trained network reads and answers.

    Parameters
    ----------
    name : str
        How the expert is called in results.
    modality : str
        "voice", "face" or "text"; "joint" for one that reads several blocks at once.
    labels : LabelSpace
        Columns of its output "probabilities" (n, k), and what own labels mean among the seven emotions, where that is
        stated.
    reads : tuple of str
        Blocks that the network reads (keys of `BLOCKS`), in the order of the columns of its input "present" where it
        is joint. An expert reads exactly one.
    prior : tuple of k float
        Label frequencies under which the answers are calibrated; they add up to 1.
    inputs : mapping of str to mapping
        By block, what its input looks like. "images": "size" in pixels, "channels" (1 grey, 3 RGB). "clips": "size",
        "frames" of a clip (RGB). "tokens": "longest", ids that the network reads at once, special ones included;
        "language" where it reads only one. "columns": "names" of the columns of a table, of which single ones may be
        NaN; "modality" where they were measured on voice, face or text (of action units it is known).
    measured : mapping
        Figures on rows that neither training nor selection saw, by name.
    licence : str
        Of the weights.
    kind : str
        "expert" or "joint".
    files : mapping of str to str
        SHA-256 (hex) by name of every file beside the description; `write_package` fills it in, and likewise
        ``affuse`` and ``created`` where they are empty.
    affuse, created : str
        The version that wrote it, and when (UTC, ISO 8601).

    Raises
    ------
    ConfigError
        If parts do not fit together.

    Examples
    --------
    >>> two = LabelSpace("study", ("engaged", "frustrated"))
    >>> description = PackageDescription("mine", "voice", two, ("waveform",), (0.5, 0.5))
    >>> description.covers
    ('voice',)
    """

    what: ClassVar[str] = "package"

    name: str
    modality: str
    labels: LabelSpace
    reads: tuple[str, ...]
    prior: tuple[float, ...]
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "not stated"
    kind: str = "expert"
    files: Mapping[str, str] = field(default_factory=dict)
    affuse: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads", tuple(self.reads))
        object.__setattr__(self, "prior", tuple(map(float, self.prior)))
        for check in (_check_reads, _check_labels, _check_inputs, _check_files):
            check(self)

    @property
    def tokenizer(self) -> str | None:
        """Name of the tokenizer's file; None for a network that reads no words."""
        return TOKENIZER if "tokens" in self.reads else None

    @property
    def covers(self) -> tuple[str, ...]:
        """The modalities that the network tells about, so that another expert for them would count twice."""
        stated = [_measured_on(self.inputs["columns"]) if b == "columns" else BLOCKS[b][0] for b in self.reads]
        return tuple(dict.fromkeys(m for m in stated if m is not None))

    def to_json(self) -> str:
        """Text of the file.

        Returns
        -------
        str
        """
        fields = {
            "format": FORMAT,
            "kind": self.kind,
            "name": self.name,
            "modality": self.modality,
            "reads": list(self.reads),
            "labels": _labels_to_dict(self.labels),
            "prior": list(self.prior),
            "inputs": {block: dict(values) for block, values in self.inputs.items()},
            "tokenizer": self.tokenizer,
            "measured": dict(self.measured),
            "licence": self.licence,
            "affuse": self.affuse,
            "created": self.created,
            "files": dict(self.files),
        }
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> PackageDescription:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str
            Text of the file.

        Returns
        -------
        PackageDescription

        Raises
        ------
        AssetError
            If it is of another format, incomplete or inconsistent.
        """
        fields = describes(text, EXPERT_KINDS)
        try:
            labels = _labels_from_dict(fields["labels"])
            kept = ("name", "modality", "reads", "prior", "inputs", "measured", "licence", "kind", "files", "affuse")
            found = cls(labels=labels, created=fields["created"], **{name: fields[name] for name in kept})
            check_complete(found, found.files)
            return found
        except KeyError as error:
            raise AssetError(f"its entry {error} is missing") from error
        except (ConfigError, TypeError, ValueError, AttributeError) as error:
            raise AssetError(f"it does not hold together: {error}") from error


def _labels_to_dict(labels: LabelSpace) -> dict[str, Any]:
    named: dict[str, Any] = {"name": labels.name, "labels": list(labels.labels)}
    return named | ({"map": dict(labels.onto)} if labels.onto else {})


def _labels_from_dict(fields: Mapping[str, Any]) -> LabelSpace:
    onto = {str(label): str(goal) for label, goal in fields.get("map", {}).items()}
    return LabelSpace(str(fields["name"]), tuple(map(str, fields["labels"])), onto)


def _measured_on(columns: Mapping[str, Any]) -> str | None:
    """The modality that the columns of a table tell about: the one that is stated, or the face for action units."""
    stated: str | None = columns.get("modality")
    return stated or ("face" if all(map(_ACTION_UNIT.fullmatch, columns["names"])) else None)


def _check_reads(d: PackageDescription) -> None:
    if not d.name or not d.modality:
        raise ConfigError("a package needs a name and a modality")
    if d.kind not in EXPERT_KINDS:
        raise ConfigError(f"unknown kind {d.kind!r}; known: {', '.join(EXPERT_KINDS)}")
    unknown = [block for block in d.reads if block not in BLOCKS]
    if unknown or not d.reads:
        raise ConfigError(f"a network reads some of {', '.join(BLOCKS)}; got {', '.join(map(repr, unknown)) or 'none'}")
    if len(set(d.reads)) < len(d.reads):
        raise ConfigError(f"a block is read once; got {', '.join(d.reads)}")
    if d.kind == "expert" and (len(d.reads) > 1 or BLOCKS[d.reads[0]][0] != d.modality):
        fitting = " or ".join(block for block, (modality, _) in BLOCKS.items() if modality == d.modality)
        raise ConfigError(
            f"an expert for {d.modality} reads {fitting or 'nothing that affuse knows'}; got {', '.join(d.reads)}"
        )


def _check_labels(d: PackageDescription) -> None:
    k, prior = len(d.labels), np.array(d.prior)
    if k < 2:
        raise ConfigError(f"a network needs at least 2 labels to choose from; got {k}")
    if len(prior) != k or not (prior >= 0).all() or not abs(prior.sum() - 1) < 1e-3:  # not: refuses NaN as well
        raise ConfigError(f"the prior must be {k} frequencies that add up to 1; got {', '.join(map(str, d.prior))}")


def _check_inputs(d: PackageDescription) -> None:
    for block in d.reads:
        given = d.inputs.get(block, {})
        for name, kind in BLOCKS[block][1].items():
            value = given.get(name)
            if not isinstance(value, kind) or (isinstance(value, int) and value < 1) or not value:
                raise ConfigError(f"inputs[{block!r}] needs {name!r} ({kind.__name__}); got {value!r}")
    channels = d.inputs.get("images", {}).get("channels", 1)
    if channels not in (1, 3):
        raise ConfigError(f"pictures have 1 channel (grey) or 3 (RGB); got {channels}")


def _check_files(d: PackageDescription) -> None:
    check_file_names(d.files, d.what)


def check_complete(description: PackageDescription, files: Mapping[str, object]) -> None:
    """Raise ConfigError where a file is missing that the network needs."""
    needed = [MODEL, *([description.tokenizer] if description.tokenizer else [])]
    missing = [name for name in needed if name not in files]
    if missing:
        raise ConfigError(f"a package that reads {', '.join(description.reads)} needs {' and '.join(missing)}")
