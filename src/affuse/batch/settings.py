"""How the recordings of a batch are analysed, and the fingerprint of everything that decides about the answers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse import __version__
from affuse.errors import ConfigError
from affuse.purpose import Purpose

if TYPE_CHECKING:
    from affuse.analyzer import Analyzer

__all__ = ["ADAPTATIONS", "LIMITS", "BatchSettings", "describe", "fingerprint", "make_analyzers", "versions"]

ADAPTATIONS = ("none", "person")
"""What the answers about one recording can be adapted to without the others."""

LIMITS = (
    *("max_duration", "max_pixels", "max_frames", "max_packets", "max_cues", "max_text", "max_windows"),
    *("max_window_seconds", "max_answers"),
)
"""Limits of a recording, which are the fields of `affuse.budget.Budget`."""

_LIBRARIES = ("av", "numpy", "onnxruntime", "opencv-python-headless", "scikit-learn", "scipy")
_FILES = ("feature_table", "label_map", "prior")  # what counts of them is what they hold, not where they lie


@dataclass(frozen=True)
class BatchSettings:
    """How recordings are analysed; everything has the meaning that it has in ``affuse analyze``.

    Parameters
    ----------
    package : str, optional
        Folder that ``affuse export`` wrote, whose experts and fuser answer.
    experts : mapping of str to str, optional
        Name of an installed expert, or folder of a package, by modality; the shipped ones where None.
    window, hop : float, optional
        Seconds.
    language : str, optional
        Code of the language of the words, for recordings whose manifest names none; recognised where None.
    feature_table : str, optional
        Table of numbers that a joint expert reads.
    fuser : str, optional
        Folder of a fuser instead of the shipped one.
    prior, context : str, optional
        What is expected beforehand.
    label_map : str, optional
        TOML file that says what own labels mean.
    adapt : str
        "none" or "person": each recording by itself.
    transcribe : bool
        Recognise the words of recordings without a transcript.
    asr_model : str, optional
        Folder of a Whisper model.
    shared_voice : bool
        Count voice and words for everybody in view.
    speakers : int, optional
        How many people speak in each recording, where that is known.
    limits : mapping of str to float, optional
        Limits of a recording by the names of the fields of `affuse.budget.Budget`; its defaults for the others.
    purpose, exemption : str, optional
        What the recordings are analysed for (`affuse.purpose.Purpose`). Results for one purpose are kept apart from
        those for another.
    redact : bool
        Put "speaker 1" and so on in the place of names that transcripts give, and quote nothing of transcripts.
    private : bool
        Keep numbers alone: recordings are called by the hash of their content, and columns of the manifest are left
        out.
    pictures : bool
        Keep a small picture of the strongest moment of each person for the page; never with ``redact`` or ``private``.
    weights : str, optional
        Set of the shipped weights (`affuse.weight_sets`); the one in use where None.

    Raises
    ------
    ConfigError
        If ``adapt`` is neither "none" nor "person", or the purpose is forbidden.

    Examples
    --------
    >>> BatchSettings(experts={"voice": "voice"}, window=2.0).adapt
    'none'
    """

    package: str | None = None
    experts: Mapping[str, str] | None = None
    window: float | None = None
    hop: float | None = None
    language: str | None = None
    feature_table: str | None = None
    fuser: str | None = None
    prior: str | None = None
    context: str | None = None
    label_map: str | None = None
    adapt: str = "none"
    transcribe: bool = False
    asr_model: str | None = None
    shared_voice: bool = False
    speakers: int | None = None
    limits: Mapping[str, float] | None = None
    purpose: str | None = None
    exemption: str | None = None
    redact: bool = False
    private: bool = False
    pictures: bool = True
    weights: str | None = None

    def __post_init__(self) -> None:
        Purpose(self.purpose, self.exemption)
        if self.adapt not in ADAPTATIONS:
            raise ConfigError(
                f"a batch adapts to {' or '.join(ADAPTATIONS)}, since every recording is answered as soon as it is "
                f"read; got {self.adapt!r}"
            )
        if self.package is not None and self.experts is not None:
            raise ConfigError("give either --package or --experts; a package says itself which experts it has")

    @property
    def keeps_pictures(self) -> bool:
        """Whether pictures are kept of those who are seen."""
        return self.pictures and not (self.redact or self.private)

    def to_json(self) -> str:
        """The settings as one line of JSON.

        Returns
        -------
        str
        """
        return json.dumps(asdict(self))


def make_analyzers(settings: BatchSettings) -> Analyzers:
    """Load the experts once, for recordings in any language. Raises ConfigError where the settings do not fit."""
    return Analyzers(settings)


class Analyzers:
    """Analyzers by language, which share experts and weights."""

    def __init__(self, settings: BatchSettings) -> None:
        from affuse.analyzer.loading import load_parts
        from affuse.budget import Budget

        features = None if settings.feature_table is None else Path(settings.feature_table)
        self.settings = settings
        limits: dict[str, Any] = dict(settings.limits or {})
        self.budget = Budget(**limits)
        self.experts, self.fuser = load_parts(
            settings.package, settings.experts, settings.language, features, settings.fuser, settings.weights
        )
        self._made: dict[str | None, Analyzer] = {}

    def __call__(self, language: str | None = None) -> Analyzer:
        """The analyzer for one language; None is that of the settings. Raises ConfigError where it is unknown."""
        language = language or self.settings.language
        if language not in self._made:
            self._made[language] = self._make(language)
        return self._made[language]

    def _make(self, language: str | None) -> Analyzer:
        from affuse.analyzer import Analyzer
        from affuse.experts.transcribe import Transcriber

        asked = self.settings
        experts = {
            modality: expert.in_language(language) if "words" in expert.abilities.reads else expert
            for modality, expert in self.experts.items()
        }
        transcribes = asked.transcribe or asked.asr_model is not None
        return Analyzer(
            experts,
            asked.window,
            asked.hop,
            self.fuser,
            Transcriber(asked.asr_model, language) if transcribes else None,
            asked.prior,
            asked.context,
            label_map=asked.label_map,
            shared_voice=asked.shared_voice,
            purpose=asked.purpose,
            exemption=asked.exemption,
            weights=asked.weights,
        )


def describe(settings: BatchSettings, analyzer: Analyzer) -> dict[str, Any]:
    """Everything that decides about the answers: options, versions, and checksums of weights and files."""
    from affuse import weights
    from affuse.results import SCHEMA_ID

    options = asdict(settings) | {name: _content(getattr(settings, name)) for name in _FILES}
    for name in ("package", "experts", "fuser", "weights"):  # their checksums are below, wherever they lie
        del options[name]
    if settings.transcribe or settings.asr_model is not None:
        model = settings.asr_model or os.environ.get("AFFUSE_WHISPER")
        # The path of a model may name its user.
        options["asr_model"] = hashlib.sha256(model.encode()).hexdigest() if settings.private and model else model
    for name in ("redact", "private"):  # results of earlier versions, which knew neither, stay as good as they were
        if not options[name]:
            del options[name]
    if settings.pictures or settings.redact or settings.private:
        del options["pictures"]
    speaker = weights.find("speaker")  # optional; tells voices apart where it is there
    return {
        "affuse": __version__,
        "schema": SCHEMA_ID,
        "libraries": versions()["libraries"],
        "options": options,
        "labels": list(analyzer.labels.labels),
        "experts": {m: {"name": e.name, "weights": dict(e.sha256)} for m, e in analyzer.experts.items()},
        "fuser": {"name": analyzer.fuser.method, "weights": analyzer.fuser.sha256},
        "prior": analyzer.prior.describe(settings.context),
        "speaker": None if speaker is None else weights.sha256_of(speaker),
    }


def versions() -> dict[str, Any]:
    """The versions of affuse and of the libraries that compute."""
    return {"affuse": __version__, "libraries": {name: version(name) for name in _LIBRARIES}}


def _content(path: str | None) -> str | None:
    """The checksum of a file; a name that is none, such as that of a prior, stays."""
    from affuse import weights

    return weights.sha256_of(Path(path)) if path is not None and Path(path).is_file() else path


def fingerprint(description: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that stand for a description.

    Examples
    --------
    >>> fingerprint({"window": 3.0}) == fingerprint({"window": 2.0})
    False
    """
    text = json.dumps(description, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
