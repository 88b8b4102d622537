"""Names of speakers in transcripts, told from the words: "Anna: What a day." and ``<v Anna>What a day.</v>``.

In front of a colon may stand a name, or the beginning of a sentence ("One thing: go away."). What stands there is a
*candidate* if it

- is the first thing in its line (a dialogue dash or ">>" may precede it; brackets may enclose it; a remark in brackets
  may follow it),
- has at most four words and 40 characters, or 8 characters in a script without spaces (Chinese, Japanese),
- starts with a letter that is no lower-case one, as does every further word but particles ("de", "von") and numbers,
- is no word that introduces a sentence ("Note", "Example", 注意, 他说), and
- is no part of a time ("12:30") or of an address ("http://").

A candidate is a speaker's name if it is a well-known role ("Customer", "Agent", "Speaker 1", "SPEAKER_00",
"Interviewer", "Q", "A", 客户, 客服 …), or occurs more than once in the transcript, or if there are several cues and
every one begins with a candidate. Capitals do not distinguish names; the first spelling counts.

Where fewer than one in 200 cues begins with any of them, nobody's turns are marked: in 60,000 sentences of strangers
"Edit: thanks" and "Doctor: no." come again by chance (one in 600 begins with a candidate), and no names are taken.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Said", "by_speaker", "in_turns", "names_in", "without_markup"]

_MAX_WORDS = 4
_MAX_CHARACTERS = 40
_MAX_UNSPACED = 8
_LEAST_SHARE = 1 / 200  # of the cues of a transcript that marks who speaks begin with a name

# HTML tags, WebVTT voices, classes and inner times, and SubStation's {\an8}.
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|</?>|<\d[\d:.]*>|\{\\[^{}]*\}")

# WebVTT's voice with its classes: <v.loud Anna>; it lasts to </v>, to the next voice or to the end of the cue.
_VOICE = re.compile(r"<v(?:\.[^\s<>]*+)?(?:\s++([^<>]*+))?>|</v>")

# What is read once is not given back (++), so that a long line takes no longer than its length.
_LABEL = re.compile(
    r"\s*+(?P<dash>[-–—]\s*+|>>++\s*+)?+"
    r"(?:\[(?P<enclosed>[^\[\]:：]++)\]\s*+|(?P<bare>[^\[\]():：（）]++))"
    r"(?:[(（][^()（）]*+[)）]\s*+)?"
    r"[:：](?P<rest>.*)$"
)
_DASH = re.compile(r"\s*(?:[-–—]|>>+)\s*\S")
_WORD = re.compile(r"[\w.'’&/#-]+$")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_PARTICLES = frozenset(("al", "and", "bin", "da", "de", "del", "der", "di", "du", "el", "la", "le", "of", "van", "von"))

_ROLE = re.compile(
    r"""(?:speaker|spk|voice|person|participant|channel)[ _-]?(?:\d+|[a-z])
    |(?:speaker|customer|client|caller|agent|advisor|adviser|operator|representative|rep|support|salesperson
       |interviewer|interviewee|respondent|participant|moderator|host|guest|narrator|reporter|announcer
       |doctor|patient|nurse|therapist|counsell?or|teacher|student|pupil|judge|witness|lawyer|attorney
       |assistant|user|man|woman|boy|girl|mother|father|mom|mum|dad)(?:[ _-]?\d+)?
    |(?:客户|顾客|客人|用户|客服|坐席|座席|专员|销售|主持人|嘉宾|记者|采访者|受访者|访谈者|被访者
       |医生|大夫|护士|患者|病人|咨询师|来访者|老师|教师|学生|同学|家长|旁白|法官|律师|证人
       |说话人|发言人|讲者|男声|女声|甲方|乙方|甲|乙|丙|问|答)[ _-]?(?:[a-z]|\d+|[一二三四五六七八九十])?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LETTERS = frozenset("QA")  # question and answer, in capitals only

# What introduces a sentence, however often it occurs.
_INTRODUCTIONS = """
    note notes nb ps p.s p.s. warning caution attention important remember reminder tip hint example examples question
    answer subject re fwd date time place location title summary result results conclusion update edit source sources
    spoiler disclaimer problem solution reason fact point step rule lesson chapter part section item number first second
    third finally also besides however therefore thus meanwhile and but or so then now because well yes no ok okay oh
    look listen see here there this that these those he she it they we you i'm what why how who when where
    注 注意 备注 说明 提示 例如 比如 譬如 结果 结论 总结 原因 问题 答案 时间 地点 日期 标题 主题 第一 第二 第三
    首先 其次 最后 另外 但是 所以 因为 而且 总之 也就是说 换句话说 记住
"""
_NO_NAMES = frozenset(_INTRODUCTIONS.split())
_NO_NAME_ENDS = tuple("说道讲想问答喊叫是为到的了")  # 他说：, 我问：, 问题是：


class Said(NamedTuple):
    """Words of one speaker within a cue; ``speaker`` is None where the transcript does not say who it is."""

    speaker: str | None
    text: str


class _Label(NamedTuple):
    name: str
    rest: str


def without_markup(text: str) -> str:
    """Text as people see it, its lines kept. Entities last: "&lt;i&gt;" is text that somebody wrote, not markup."""
    return html.unescape(_MARKUP.sub("", text) if "<" in text or "{" in text else text)


def names_in(cues: Iterable[Sequence[str]]) -> dict[str, str]:
    """Names that lines of cues begin with, by the rule of this module.

    Parameters
    ----------
    cues : iterable of sequence of str
        Lines of each cue, without markup.

    Returns
    -------
    dict of str to str
        The spelling to use by the folded name.
    """
    spelling: dict[str, str] = {}
    counts: Counter[str] = Counter()
    begun = []
    for lines in cues:
        labels = [_label(line) for line in lines if line.strip()]
        for label in filter(None, labels):
            spelling.setdefault(_folded(label.name), label.name)
            counts[_folded(label.name)] += 1
        if labels:
            begun.append(labels[0] is not None)
    everywhere = len(begun) > 1 and all(begun)
    names = {key: name for key, name in spelling.items() if everywhere or counts[key] > 1 or _is_role(name)}
    marked = sum(counts[key] for key in names)
    return names if marked >= int(_LEAST_SHARE * len(begun)) else {}


def by_speaker(text: str, names: Mapping[str, str], speaker: str | None = None) -> list[Said]:
    """Parts of a cue, one a speaker, without markup and names.

    Parameters
    ----------
    text : str
        Words of the cue, with markup.
    names : mapping of str to str
        What `names_in` found.
    speaker : str, optional
        Who speaks where the text does not say.

    Returns
    -------
    list of Said
        In order; empty parts are left out.
    """
    parts: list[Said] = []
    for voice, piece in _voices(text):
        parts += in_turns(without_markup(piece).split("\n"), names, voice or speaker)
    return [Said(who, " ".join(said.split())) for who, said in parts]


def in_turns(lines: Iterable[str], names: Mapping[str, str], speaker: str | None = None) -> list[Said]:
    """Lines without markup as parts, one a speaker; a name holds until the next one, or until a dialogue dash.

    Parameters
    ----------
    lines : iterable of str
        Without markup.
    names : mapping of str to str
        What `names_in` found.
    speaker : str, optional
        Who speaks where the lines do not say.

    Returns
    -------
    list of Said
        In order, their lines joined by line breaks; empty parts are left out.
    """
    parts: list[tuple[str | None, list[str]]] = []
    current = speaker
    for line in lines:
        label = _label(line)
        said = line
        if label is not None and _folded(label.name) in names:
            current, said = names[_folded(label.name)], label.rest
        elif _DASH.match(line):
            current = speaker
        if not parts or parts[-1][0] != current:
            parts.append((current, []))
        parts[-1][1].append(said)
    return [Said(who, text) for who, held in parts if (text := "\n".join(held)).strip()]


def _voices(text: str) -> Iterator[tuple[str | None, str]]:
    voice, start = None, 0
    if "<" not in text:
        yield None, text
        return
    for tag in _VOICE.finditer(text):
        yield voice, text[start : tag.start()]
        voice = " ".join(html.unescape(tag[1] or "").split()) or None
        start = tag.end()
    yield voice, text[start:]


def _label(line: str) -> _Label | None:
    """The candidate that a line begins with."""
    match = _LABEL.match(line) if ":" in line or "：" in line else None
    if match is None:
        return None
    name = " ".join((match["enclosed"] or match["bare"]).split())
    rest = match["rest"]
    if rest.startswith("//") or (name[-1:].isdigit() and rest[:1].isdigit()):
        return None
    return _Label(name, rest) if _is_role(name) or _is_candidate(name) else None


def _is_candidate(name: str) -> bool:
    words = name.split()
    if not 0 < len(words) <= _MAX_WORDS or len(name) > _MAX_CHARACTERS or _folded(name) in _NO_NAMES:
        return False
    if _UNSPACED.search(name) and (len(name) > _MAX_UNSPACED or name.endswith(_NO_NAME_ENDS)):
        return False
    return _starts_name(words[0]) and all(
        _starts_name(word) or word in _PARTICLES or word.isdigit() for word in words[1:]
    )


def _starts_name(word: str) -> bool:
    return bool(_WORD.match(word)) and word[0].isalpha() and not word[0].islower()


def _is_role(name: str) -> bool:
    return name in _LETTERS or _ROLE.fullmatch(name) is not None


def _folded(name: str) -> str:
    return name.casefold()
