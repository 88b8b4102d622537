"""Extractors by name: those of affuse, and those that other packages register as ``affuse.features``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from affuse.errors import ConfigError
from affuse.registry import Registry

if TYPE_CHECKING:
    from affuse.features.base import Extractor

__all__ = ["FEATURES", "canonical", "find", "make", "names"]


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


# Modules load when one of their classes is asked for; libraries load when it measures.
FEATURES = Registry(
    "feature",
    {
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
    },
    group="affuse.features",
    normalise=_bare,
)


def names(modality: str | None = None) -> list[str]:
    """Names of all features, or of those of one modality, those of affuse first.

    Parameters
    ----------
    modality : {"text", "voice", "face"}, optional
        What the features are read from.

    Returns
    -------
    list of str

    Examples
    --------
    >>> names("text")
    ['bag-of-words', 'tf-idf', 'tf-idf-char', 'sentence-embedding', 'transformer']
    """
    every = dict.fromkeys([*FEATURES.built_in, *FEATURES.names()])
    return [name for name in every if modality is None or find(name).modality == modality]


def canonical(name: str) -> str:
    """The registered form of a name, whose hyphens, underscores and case do not matter.

    Parameters
    ----------
    name : str
        Such as "TFIDF".

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        If there is no such feature.

    Examples
    --------
    >>> canonical("TFIDF")
    'tf-idf'
    """
    return FEATURES.canonical(name)


def find(name: str) -> type[Extractor]:
    """The class of a name.

    Parameters
    ----------
    name : str
        One of `names`, in any form that `canonical` knows.

    Returns
    -------
    subclass of Extractor

    Raises
    ------
    ConfigError
        If there is no such feature.

    Examples
    --------
    >>> find("mfcc").unit
    'dB'
    """
    from affuse.features.base import Extractor  # scikit-learn's, which takes seconds; names do without

    kind = FEATURES.find(name)
    if not (isinstance(kind, type) and issubclass(kind, Extractor)):
        raise ConfigError(f"the entry point {name!r} of the group affuse.features must be a subclass of Extractor")
    return kind


def make(name: str, **options: Any) -> Extractor:
    """A new extractor by name.

    Parameters
    ----------
    name : str
        One of `names`, in any form that `canonical` knows.
    **options
        Arguments of its class.

    Returns
    -------
    Extractor

    Raises
    ------
    ConfigError
        If there is no such feature, or it has no such option.

    Examples
    --------
    >>> make("bag-of-words").fit_transform(["good day", "good good end"])
    array([[1., 0., 1.],
           [0., 1., 2.]])
    """
    find(name)
    extractor: Extractor = FEATURES.make(name, **options)
    return extractor
