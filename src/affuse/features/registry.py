"""Extractors by name: those of affuse, and those that other packages register as ``affuse.features``."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from affuse.errors import ConfigError
from affuse.features.base import Extractor

__all__ = ["GROUP", "canonical", "find", "make", "names", "third_party"]

GROUP = "affuse.features"

# Modules load when one of their classes is asked for; libraries load when it measures.
BUILT_IN = {
    "bag-of-words": "affuse.features.words:BagOfWords",
    "tf-idf": "affuse.features.words:TfIdf",
    "tf-idf-char": "affuse.features.words:TfIdfCharacters",
    "sentence-embedding": "affuse.features.embeddings:SentenceEmbedding",
    "transformer": "affuse.features.embeddings:Transformer",
    "stft": "affuse.features.spectra:Stft",
    "log-mel": "affuse.features.spectra:LogMel",
    "mfcc": "affuse.features.spectra:Mfcc",
    "chroma": "affuse.features.spectra:Chroma",
    "prosody": "affuse.features.prosody:Prosody",
    "voice-embedding": "affuse.features.embeddings:VoiceEmbedding",
    "wav2vec2": "affuse.features.embeddings:Wav2Vec2",
    "sift": "affuse.features.gradients:Sift",
    "hog": "affuse.features.gradients:Hog",
    "landmarks": "affuse.features.landmarks:Landmarks",
    "head-pose": "affuse.features.landmarks:HeadPose",
    "action-units": "affuse.features.landmarks:ActionUnits",
    "face-embedding": "affuse.features.embeddings:FaceEmbedding",
    "identity-embedding": "affuse.features.landmarks:IdentityEmbedding",
}


def names(modality: str | None = None) -> list[str]:
    """Names of all extractors, or of those that read one modality."""
    every = [*BUILT_IN, *sorted(third_party().keys() - BUILT_IN.keys())]
    return [name for name in every if modality is None or find(name).modality == modality]


def canonical(name: str) -> str:
    """The registered form of a name, whose hyphens and case do not matter: "tfidf" is "tf-idf".

    Raises ConfigError, with the names there are, for an unknown one.
    """
    every = {_bare(known): known for known in names()}
    if _bare(name) not in every:
        raise ConfigError(f"unknown features {name!r}; known: {', '.join(every.values())}")
    return every[_bare(name)]


def find(name: str) -> type[Extractor]:
    """The class registered under ``name``; affuse's own come first. Raises ConfigError for an unknown name."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    others = third_party()
    return others[name].load() if name in others else find(canonical(name))


def make(name: str, **options: Any) -> Extractor:
    """An unfitted extractor by name. Raises ConfigError for an unknown name or option."""
    kind = find(name)
    known = list(kind().get_params(deep=False))
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ConfigError(f"{kind.name} has no option {unknown[0]!r}; it has: {', '.join(known) or 'none'}")
    return kind(**options)


def third_party() -> dict[str, EntryPoint]:
    """Entry points of other packages, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
