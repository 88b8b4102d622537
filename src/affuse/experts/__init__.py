"""Experts: each reads one modality of a recording and answers with probabilities.

Every expert declares its `Abilities`. Those of affuse stand in one table, those of other packages are found by the
entry point group ``affuse.experts``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from affuse.lazy import lazy_names
from affuse.registry import Registry

if TYPE_CHECKING:
    from affuse.experts.base import INPUTS, Abilities, Expert, ExpertOutput
    from affuse.experts.face.expert import FaceExpert
    from affuse.experts.text.expert import TextExpert
    from affuse.experts.text.language import LANGUAGES, LanguageModel
    from affuse.experts.transcribe import Transcriber
    from affuse.experts.voice import SoundExpert, VoiceExpert
    from affuse.experts.words import WordsExpert

__all__ = [
    "DEFAULT_EXPERTS",
    "EXPERTS",
    "INPUTS",
    "LANGUAGES",
    "Abilities",
    "Expert",
    "ExpertOutput",
    "FaceExpert",
    "LanguageModel",
    "SoundExpert",
    "TextExpert",
    "Transcriber",
    "VoiceExpert",
    "WordsExpert",
    "expert_names",
    "make_expert",
]

EXPERTS = Registry(
    "expert",
    {
        "face": "affuse.experts.face.expert:FaceExpert",
        "voice": "affuse.experts.voice:VoiceExpert",
        "text": "affuse.experts.text.expert:TextExpert",
    },
    group="affuse.experts",
)
"""All installed experts by name."""

DEFAULT_EXPERTS = {"face": "face", "voice": "voice", "text": "text"}
"""Name of the expert that reads each modality unless told otherwise."""

# Imported at first use: the decoders and networks behind them take most of a second to load.
_HOMES = {
    "INPUTS": "affuse.experts.base",
    "LANGUAGES": "affuse.experts.text.language",
    "Abilities": "affuse.experts.base",
    "Expert": "affuse.experts.base",
    "ExpertOutput": "affuse.experts.base",
    "FaceExpert": "affuse.experts.face.expert",
    "LanguageModel": "affuse.experts.text.language",
    "SoundExpert": "affuse.experts.voice",
    "TextExpert": "affuse.experts.text.expert",
    "Transcriber": "affuse.experts.transcribe",
    "VoiceExpert": "affuse.experts.voice",
    "WordsExpert": "affuse.experts.words",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)


def expert_names() -> list[str]:
    """Names of all installed experts, those of other packages included.

    Returns
    -------
    list of str

    Examples
    --------
    >>> {"face", "text", "voice"} <= set(expert_names())
    True
    """
    return EXPERTS.names()


def make_expert(name: str, **options: Any) -> Expert:
    """Make an installed expert.

    Parameters
    ----------
    name : str
        One of `expert_names`.
    **options
        Arguments of its class.

    Returns
    -------
    Expert

    Raises
    ------
    ConfigError
        If there is no such expert, or it has no such option.

    Examples
    --------
    >>> make_expert("face", rate=5.0).rate
    5.0
    """
    expert: Expert = EXPERTS.make(name, **options)
    return expert
