"""An analysis in sentences: the answer, the conflict behind it, and what was absent, by language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from affuse.report.highlights import highlights
from affuse.report.messages import message, messages, name_of, translate
from affuse.results import Analysis, Verdict

__all__ = [
    "absence_lines",
    "absences",
    "answer_in_words",
    "conflict_text",
    "headline",
    "headline_parts",
    "purpose_key",
    "source_name",
    "windows_of",
]

# Below this the answer is called mixed, and its runner-up is named as well.
_CLEAR = 0.5


def headline(analysis: Analysis, summary: Verdict | None = None, language: str = "en") -> str:
    """The whole answer in one sentence.

    Parameters
    ----------
    analysis : Analysis
        What was found.
    summary : Verdict or None
        One of ``analysis.summaries``, by default the first.
    language : str
        "en" or "zh".

    Returns
    -------
    str
        Such as "Mostly happiness (62 %), sentiment +0.4; face and words disagree in 2 of 9 windows".

    Raises
    ------
    ConfigError
        For another language.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("What a day!")
    >>> headline(analysis)
    'Happiness (... %), sentiment +0...'
    >>> headline(analysis, language="zh")
    '快乐（...%），情感倾向 +0...'
    """
    verdict = summary or analysis.summary
    answer, *rest = headline_parts(analysis, verdict, language)
    if not rest:
        return answer
    say = messages(language)
    inner = say["headline.semicolon"].join(rest)
    if verdict.fused is None:
        return say["headline.because"].format(answer=answer, reasons=inner)
    return f"{answer}{say['conflict.comma']}{inner}"


def headline_parts(analysis: Analysis, summary: Verdict, language: str = "en") -> list[str]:
    """The answer for one person, its sentiment and the conflict behind it; without an answer, what was absent."""
    say = messages(language)
    sentiment = summary.sentiment
    about = [] if sentiment is None else [say["headline.sentiment"].format(sentiment=_signed(sentiment))]
    if summary.fused is None:
        answer = _capital(about[0]) if about else say["headline.none"]
        return [answer, *absence_lines(analysis, summary, language)]
    conflict = _conflict(analysis, summary, language)
    return [_answer(analysis, summary, language), *about, *([conflict] if conflict else [])]


def absences(analysis: Analysis, summary: Verdict, language: str = "en") -> dict[str, list[str]]:
    """For every modality, why it lacks evidence in some windows of a person: an entry a reason, most frequent first."""
    windows = windows_of(analysis, summary.person) or [summary]
    return {modality: list(_absence(modality, windows, language)) for modality in analysis.modalities}


def answer_in_words(analysis: Analysis, language: str = "en") -> dict[str, list[Any]]:
    """What a page needs besides the analysis itself: ``headlines``, ``absences`` and ``highlights`` by person."""
    return {
        "headlines": [headline_parts(analysis, summary, language) for summary in analysis.summaries],
        "absences": [absences(analysis, summary, language) for summary in analysis.summaries],
        "highlights": [[m.to_dict() for m in highlights(analysis, s.person)] for s in analysis.summaries],
    }


def absence_lines(analysis: Analysis, summary: Verdict, language: str = "en") -> list[str]:
    """The absences of a person as lines of text that name the modality."""
    found = absences(analysis, summary, language)
    return [
        message(language, "absence.line", modality=name_of("modality", modality, language), text=text)
        for modality, texts in found.items()
        for text in texts
    ]


def source_name(analysis: Analysis, language: str = "en") -> str:
    """What to call the recording: the name of its file, or "text" for words that have none."""
    source = analysis.source
    unnamed = source.kind == "text" and source.path is None and source.name == "text"
    return message(language, "kind.text") if unnamed else source.name


def conflict_text(sentence: str, language: str) -> str:
    """The English sentence of a conflict ("face says joy, voice and text say anger") in another language."""
    if language == "en":
        return sentence
    say, clauses = messages(language), []
    for clause in sentence.split(", "):
        match = re.fullmatch(r"(.+) says? (.+)", clause)
        if match is None:
            return sentence
        names = [name_of("modality", name, language) for name in match[1].split(" and ")]
        label = name_of("emotion", match[2], language)
        clauses.append(say["conflict.says"].format(names=say["conflict.and"].join(names), label=label))
    return say["conflict.comma"].join(clauses)


def windows_of(analysis: Analysis, person: str | None) -> list[Verdict]:
    """The windows of one person, in order of time; where only the scene as a whole was judged, those of the scene."""
    own = [v for v in analysis.verdicts if v.person == person]
    taken = {v.segment for v in own}
    rest = [v for v in analysis.verdicts if v.person is None and v.segment not in taken]
    return sorted([*own, *rest], key=lambda v: v.segment)


def _answer(analysis: Analysis, verdict: Verdict, language: str) -> str:
    assert verdict.fused is not None
    first, second = np.argsort(-np.asarray(verdict.fused), kind="stable")[:2]
    top = float(verdict.fused[first])
    single = analysis.source.kind in ("picture", "text")
    shape = "mixed" if top < _CLEAR else "single" if single else "mostly"
    labels = analysis.labels.labels
    text = message(
        language,
        f"headline.{shape}",
        label=name_of("emotion", labels[first], language),
        percent=round(100 * top),
        second=name_of("emotion", labels[second], language),
        second_percent=round(100 * float(verdict.fused[second])),
    )
    return _capital(text)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _signed(value: float) -> str:
    return f"{round(value, 1) or 0.0:+.1f}".replace("+0.0", "0").replace("-", "−")


def _conflict(analysis: Analysis, summary: Verdict, language: str) -> str:
    windows = windows_of(analysis, summary.person) or [summary]
    pairs = Counter(pair for v in windows if v.conflict_text and (pair := _farthest_pair(v)))
    if not pairs:
        return ""
    pair, count = pairs.most_common(1)[0]
    names = [name_of("modality", modality, language) for modality in pair]
    key = "headline.conflict_once" if len(windows) == 1 else "headline.conflict"
    say = messages(language)
    return say[key].format(
        pair=say["pair"].format(first=names[0], second=names[1]),
        count=count,
        total=len(windows),
    )


def _farthest_pair(verdict: Verdict) -> tuple[str, str] | None:
    """The two modalities whose probabilities are farthest apart, by total variation distance."""
    present = {name: e.probabilities for name, e in verdict.evidence.items() if e.probabilities is not None}
    pairs = list(combinations(present, 2))
    return max(pairs, key=lambda pair: float(np.abs(present[pair[0]] - present[pair[1]]).sum()), default=None)


def _absence(modality: str, windows: Sequence[Verdict], language: str) -> Iterator[str]:
    reasons = Counter(v.evidence[modality].reason for v in windows if v.evidence[modality].probabilities is None)
    for reason, count in reasons.most_common():
        key = "absence.all" if count == len(windows) else "absence.some"
        yield message(language, key, reason=translate(reason, language), count=count, total=len(windows))


def purpose_key(purpose: str | None, exemption: str | None = None) -> str:
    """The key of the message that says what an analysis is for, or that nobody declared it.

    Parameters
    ----------
    purpose, exemption : str, optional
        As in the settings of an analysis.

    Returns
    -------
    str
        A key of `affuse.report.messages.messages`.

    Examples
    --------
    >>> messages("en")[purpose_key(None)], messages("en")[purpose_key("work", "safety")]
    ('Purpose: not declared', 'Declared purpose: work, for safety reasons')
    """
    return ".".join(("purpose", purpose or "none", *([exemption] if exemption else [])))
