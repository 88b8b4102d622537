"""Words replaced by synonyms, those first without which a model is least sure of the right label.

After PWWS (Ren et al. 2019, doi:10.18653/v1/P19-1103). Synonyms come from files of WordNet as Princeton publishes them
(format: wndb(5WN)) and the Debian package wordnet-base installs them. NLTK's reader also asks for files that are not
among them, so they are read here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from affuse.errors import ConfigError, DataError

__all__ = ["Synonyms", "WordNet", "places", "substituted", "substituted_at_random"]

Synonyms = Callable[[str], Sequence[str] | None]
"""Words in place of a word in small letters."""

_PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_OF_SENSE_KEY = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
_SURE = 0.9  # share of a word's occurrences that have one part of speech
_TOKEN = re.compile(r"(\W*)([A-Za-z]+)(\W*)")


def substituted(ask: Callable[[list[str]], np.ndarray], text: str, y: int, most: int, synonyms: Synonyms) -> list[str]:
    """A text with 1, 2, … ``most`` words replaced by the synonym after which the right label is least probable.

    Parameters
    ----------
    ask : callable
        n texts in, probabilities (n, k) out.
    text : str
        What is read rightly.
    y : int
        Its right label.
    most : int
        How many words are replaced at most.
    synonyms : callable
        What a word, in small letters, may be replaced by.

    Returns
    -------
    list of str
        ``most`` texts. Where no further synonym makes the right label less probable, the last one is repeated.

    Examples
    --------
    >>> ask = lambda texts: np.array([[0.9, 0.1] if "glad" in t else [0.4, 0.6] for t in texts])
    >>> substituted(ask, "So glad today!", 0, 2, {"glad": ["happy"], "today": ["now"]}.get)
    ['So happy today!', 'So happy today!']
    """
    words = text.split()
    choices = places(text, synonyms)
    if not choices:
        return [text] * most
    at = list(choices)
    without = ask([" ".join([*words[:i], *words[i + 1 :]]) for i in at])[:, y]
    lowest, found = ask([text])[0, y], list[str]()
    for i in (at[k] for k in np.argsort(without, kind="stable")):
        tried = [[*words[:i], own, *words[i + 1 :]] for own in choices[i]]
        P = ask([" ".join(own) for own in tried])[:, y]
        if P.min() < lowest and len(found) < most:
            lowest, words = P.min(), tried[int(P.argmin())]
            found.append(" ".join(words))
    return found + [" ".join(words)] * (most - len(found))


def places(text: str, synonyms: Synonyms) -> dict[int, list[str]]:
    """What each word of a text may be replaced by, by its place; without words that have no synonyms, and names.

    Examples
    --------
    >>> places("Glad, Rose?", {"glad": ["happy"], "rose": ["flower"]}.get)
    {0: ['Happy,']}
    """
    found = {}
    for i, word in enumerate(text.split()):
        parts = _TOKEN.fullmatch(word)
        if parts is None or not (parts[2].islower() or (i == 0 and parts[2].istitle())):
            continue
        own = [new.capitalize() if parts[2].istitle() else new for new in synonyms(parts[2].lower()) or ()]
        if own:
            found[i] = [parts[1] + new + parts[3] for new in own]
    return found


def substituted_at_random(text: str, count: int, synonyms: Synonyms, seed: int) -> str:
    """A text with ``count`` words, drawn as their synonyms are, replaced; all that have synonyms where fewer do.

    Examples
    --------
    >>> substituted_at_random("so glad", 2, {"glad": ["happy"]}.get, seed=0)
    'so happy'
    """
    rng, words, choices = np.random.default_rng(seed), text.split(), places(text, synonyms)
    for i in rng.permutation(list(choices))[:count]:
        words[i] = str(rng.choice(choices[i]))
    return " ".join(words)


class WordNet:
    """Synonyms out of a folder of WordNet's files.

    A word has some where it stands in WordNet as it is (so no other forms: not "cars", not "loved"), is no function
    word (scikit-learn's list), and has one part of speech, or one in at least 90 % of the places that WordNet counted.

    Parameters
    ----------
    folder : path
        With index.noun, data.noun, those of verb, adj and adv, and cntlist.rev.

    Raises
    ------
    ConfigError
        The folder lacks a file.
    DataError
        A file is not one of WordNet.
    """

    def __init__(self, folder: Path) -> None:
        names = [f"{kind}.{part}" for part in _PARTS.values() for kind in ("index", "data")]
        for name in (*names, "cntlist.rev"):
            if not (folder / name).is_file():
                raise ConfigError(
                    f"{folder} has no file {name} of WordNet; install the package wordnet-base of Debian and name by "
                    "--wordnet the folder where dpkg -L wordnet-base shows it"
                )
        self._synsets: dict[str, dict[str, list[list[str]]]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        try:
            for part, name in _PARTS.items():
                self._read(folder, part, name)
            for line in _lines(folder / "cntlist.rev"):
                lemma, _, rest = line.partition("%")
                self._counts[lemma, _OF_SENSE_KEY[rest[0]]] += int(line.split()[2])
        except (ValueError, KeyError, IndexError, OSError) as error:
            raise DataError(f"{folder} holds files that are not WordNet's: {error}") from error

    def _read(self, folder: Path, part: str, name: str) -> None:
        words = {}
        for line in _lines(folder / f"data.{name}"):
            fields = line.split(" ")
            own = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            words[fields[0]] = [word.partition("(")[0] for word in own]  # "(p)" tells where an adjective stands
        for line in _lines(folder / f"index.{name}"):
            fields = line.split()
            senses = [words[offset] for offset in fields[-int(fields[2]) :]]
            self._synsets.setdefault(fields[0], {})[part] = senses

    def synonyms(self, word: str, senses: int | None = None) -> list[str]:
        """Single words in small letters that mean the same in one of the first ``senses`` senses; None: in any.

        Senses are in the order of how often WordNet counted them.
        """
        parts = self._synsets.get(word, {})
        if not parts or word in ENGLISH_STOP_WORDS:
            return []
        counts = {part: self._counts[word, part] for part in parts}
        part = max(counts, key=lambda own: counts[own])
        if len(parts) > 1 and (counts[part] == 0 or counts[part] < _SURE * sum(counts.values())):
            return []
        same = [new for sense in parts[part][:senses] if word in sense for new in sense]
        return [new for new in dict.fromkeys(same) if new != word and new.isalpha() and new.islower()]


def _lines(path: Path) -> list[str]:
    """Lines of a file without those of the licence at its head, which begin with two spaces."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("  ")]
