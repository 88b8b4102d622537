"""The languages that the shipped text expert reads: one class in one file, and one line in the table here, for each."""

from __future__ import annotations

import base64
import lzma
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from affuse import weights
from affuse.errors import AssetError
from affuse.labels import EKMAN, SENTIMENT
from affuse.registry import Registry
from affuse.weight_sets import RESEARCH

__all__ = [
    "BESIDE",
    "LANGUAGES",
    "PACKED",
    "TOKENIZER",
    "LanguageModel",
    "languages_of_script",
    "parts_of",
    "read_in_parts",
    "script_of",
    "stored_tokenizer",
]

TOKENIZER, PACKED, BESIDE = "tokenizer", "tokenizer.xz", "tokenizer.beside"
"""Under which names the metadata of a network hold its tokenizer: as it is; compressed (LZMA) and in Base64; or as
"FILE PLACE LENGTH" of a file beside the network that holds it compressed."""

_MOST_TOKENIZER = 64 << 20  # bytes; no file may make more memory than this out of few

LANGUAGES = Registry(
    "language",
    {
        "en": "affuse.experts.text.english:EnglishText",
        "zh": "affuse.experts.text.chinese:ChineseText",
        "af": "affuse.experts.text.multilingual:Afrikaans",
        "am": "affuse.experts.text.multilingual:Amharic",
        "ar": "affuse.experts.text.multilingual:Arabic",
        "de": "affuse.experts.text.multilingual:German",
        "es": "affuse.experts.text.multilingual:Spanish",
        "ha": "affuse.experts.text.multilingual:Hausa",
        "hi": "affuse.experts.text.multilingual:Hindi",
        "ig": "affuse.experts.text.multilingual:Igbo",
        "mr": "affuse.experts.text.multilingual:Marathi",
        "om": "affuse.experts.text.multilingual:Oromo",
        "pcm": "affuse.experts.text.multilingual:Pidgin",
        "pt": "affuse.experts.text.multilingual:Portuguese",
        "ro": "affuse.experts.text.multilingual:Romanian",
        "ru": "affuse.experts.text.multilingual:Russian",
        "rw": "affuse.experts.text.multilingual:Kinyarwanda",
        "so": "affuse.experts.text.multilingual:Somali",
        "su": "affuse.experts.text.multilingual:Sundanese",
        "sv": "affuse.experts.text.multilingual:Swedish",
        "sw": "affuse.experts.text.multilingual:Swahili",
        "ti": "affuse.experts.text.multilingual:Tigrinya",
        "tt": "affuse.experts.text.multilingual:Tatar",
        "uk": "affuse.experts.text.multilingual:Ukrainian",
        "vmw": "affuse.experts.text.multilingual:Makhuwa",
        "yo": "affuse.experts.text.multilingual:Yoruba",
    },
    group="affuse.languages",
)
"""The model of every language by its code (ISO 639-1, or 639-3 where that has none).

The first that claims a text reads it. Other packages add theirs by the entry point group.
"""

_HAN_NEIGHBOURS = ("HIRAGANA", "KATAKANA", "HANGUL")
_SCRIPTS = ("latin", "cyrillic", "arabic", "devanagari", "ethiopic")


class LanguageModel(ABC):
    """The network for one language: emotions, sentiment and an embedding of a text.

    Parameters
    ----------
    path : Path
        ONNX file of the network.

    Attributes
    ----------
    code : str
        ISO 639-1 code of the language.
    asset : str
        Name of its shipped weights; another package writes `file` and `checksum` instead.
    of_set : str
        Set of weights (`affuse.weight_sets`) that these belong to.
    script : str
        Its script, as `script_of` names it.
    multilingual : tuple of float
        Shares of the multilingual network in emotions and in sentiment; the rest is this network's.

    Examples
    --------
    >>> from affuse.experts import LANGUAGES
    >>> LANGUAGES.find("zh").script
    'han'
    """

    code: ClassVar[str]
    asset: ClassVar[str] = ""
    of_set: ClassVar[str] = RESEARCH
    script: ClassVar[str]
    multilingual: ClassVar[tuple[float, float]] = (0.0, 0.0)
    _session: Any

    @abstractmethod
    def __init__(self, path: Path) -> None: ...

    @classmethod
    def file(cls) -> Path:
        """Where its weights are.

        Returns
        -------
        Path

        Raises
        ------
        AssetError
            If they are missing or not the right ones.
        """
        return weights.shipped(cls.asset, of_set=cls.of_set)

    @classmethod
    def checksum(cls) -> str:
        """SHA-256 of these weights.

        Returns
        -------
        str
            Hexadecimal.
        """
        return weights.digest(cls.asset, cls.of_set)

    @classmethod
    def claims(cls, text: str, network: Callable[[], Self]) -> bool:
        """Whether a text in its script is in this language.

        Parameters
        ----------
        text : str
            One utterance.
        network : callable
            Loads the network, where its vocabulary must be asked.

        Returns
        -------
        bool
        """
        return True

    @abstractmethod
    def read(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a text expresses.

        Parameters
        ----------
        text : str
            One utterance.

        Returns
        -------
        emotions : array of shape (7,)
            Over `affuse.EKMAN`.
        sentiment : array of shape (3,)
            Over `affuse.SENTIMENT`.
        embedding : array of shape (d,)
        """

    def read_all(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """What each of many texts expresses; a language may run them together.

        Parameters
        ----------
        texts : sequence of n str
            Utterances.

        Returns
        -------
        list of n tuples
            As of `read`, to the rounding of floating point.
        """
        return [self.read(text) for text in texts]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """What each of some texts expresses.

        Parameters
        ----------
        texts : sequence of n str
            Utterances.

        Returns
        -------
        array of shape (n, 7)
            Over `affuse.EKMAN`.
        """
        return np.array([self.read(text)[0] for text in texts]).reshape(-1, len(EKMAN))

    def sentiment(self, texts: Sequence[str]) -> np.ndarray:
        """Sentiment of texts.

        Parameters
        ----------
        texts : sequence of n str
            Utterances.

        Returns
        -------
        array of shape (n, 3)
            Over `affuse.SENTIMENT`.
        """
        return np.array([self.read(text)[1] for text in texts]).reshape(-1, len(SENTIMENT))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of texts.

        Parameters
        ----------
        texts : sequence of n str
            Utterances, at least one.

        Returns
        -------
        array of shape (n, d)
        """
        return np.array([self.read(text)[2] for text in texts])


def stored_tokenizer(facts: Mapping[str, str], beside: Collection[Path] = ()) -> str:
    """The tokenizer, as JSON, that the metadata of a network hold, or name in one of the files ``beside`` it.

    Raises KeyError where there is none, AssetError where it cannot be unpacked.
    """
    if BESIDE not in facts and PACKED not in facts:
        return facts[TOKENIZER]
    try:
        packed = _part(facts[BESIDE], beside) if BESIDE in facts else base64.b64decode(facts[PACKED], validate=True)
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_TOKENIZER)
        text = unpacker.decompress(packed, _MOST_TOKENIZER)
        if not unpacker.eof:
            raise ValueError("it breaks off, or is too long")
        return text.decode("utf-8")
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise AssetError(f"the tokenizer in a network of words cannot be unpacked ({error})") from error


def _part(told: str, beside: Collection[Path]) -> bytes:
    """Part of a file, told by its name, place and length. Raises ValueError where the file is none of those allowed."""
    name, start, length = told.split(" ")
    path = next((path for path in beside if path.name == name), None)
    if path is None:
        raise ValueError(f"the network keeps no tensors in the file {name!r}")
    with path.open("rb") as file:
        file.seek(int(start))
        return file.read(min(int(length), _MOST_TOKENIZER))


def read_in_parts(
    ids: Sequence[int], most: int, run: Callable[[list[int]], Sequence[np.ndarray]]
) -> tuple[np.ndarray, ...]:
    """Outputs of a network for a text of any length, whose parts count by their tokens.

    ``ids`` begin and end with a special token, and so does every part, of ``most`` ids at most, that ``run`` is given.
    """
    parts = parts_of(ids, most)
    lengths = [max(1, len(part) - 2) for part in parts]
    return tuple(np.average(values, axis=0, weights=lengths) for values in zip(*map(run, parts), strict=True))


def parts_of(ids: Sequence[int], most: int) -> list[list[int]]:
    """Ids of a text as parts of equal length, each of ``most`` ids at most between the text's first and last."""
    first, inner, last = ids[0], ids[1:-1], ids[-1]
    count = max(1, -(-len(inner) // (most - 2)))  # rounded up; a text without any token is one part
    return [[first, *part.tolist(), last] for part in np.array_split(np.array(inner, dtype=np.int64), count)]


def languages_of_script(script: str | None) -> list[str]:
    """Codes of the languages that are written in a script."""
    return [] if script is None else [code for code in LANGUAGES if LANGUAGES.find(code).script == script]


def script_of(text: str) -> str | None:
    """Name of the script of most letters in ``text``, "other" for those that no language here is written in.

    One of "latin", "han", "cyrillic", "arabic", "devanagari", "ethiopic" and "other"; None where there are no letters.
    Han characters among Japanese or Korean letters do not make a text Chinese. A Han character counts as two letters:
    it carries a syllable, where a Latin letter carries about half of one.
    """
    if text.isascii():  # the same, a hundred times faster
        return "latin" if any(character.isalpha() for character in text) else None
    counts: Counter[str] = Counter()
    for character in text:
        if not character.isalpha():
            continue
        name = unicodedata.name(character, "").removeprefix("FULLWIDTH ")
        if name.startswith("CJK"):
            counts["han"] += 2
        elif name.startswith(_HAN_NEIGHBOURS):
            counts["neighbour"] += 2
        else:
            script = name.partition(" ")[0].lower()
            counts[script if script in _SCRIPTS else "other"] += 1
    if not counts:
        return None
    if counts["neighbour"] * 5 >= counts["han"] and counts["neighbour"] > 0:
        counts["other"] += counts.pop("han", 0) + counts.pop("neighbour")
    return max((*_SCRIPTS, "han", "other"), key=lambda script: counts[script])
