"""Words with their times: SubRip, WebVTT, plain text and JSON with word times.

The parsers are our own because the user needs the file and the line of a mistake: pysubs2 skips what it cannot read,
webvtt-py gives no line, and srt gives none for WebVTT or JSON.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from affuse.budget import DEFAULT_BUDGET, Budget
from affuse.errors import TranscriptError
from affuse.media.speakers import Said, by_speaker, in_turns, names_in, without_markup
from affuse.timeline import Segment

__all__ = ["TRANSCRIPT_SUFFIXES", "Words", "decode_text", "has_times", "read_transcript", "spread", "utterances"]

TRANSCRIPT_SUFFIXES = (".srt", ".vtt", ".txt", ".json")

# Bare words belong to one utterance until a pause longer than this, or until a sentence ends.
_PAUSE_SECONDS = 0.6

# Some recognisers give a word the same start and end; a segment cannot be empty.
_INSTANT_SECONDS = 0.01

# A transcript may end this much after its recording: subtitles are left on screen, and times are rounded.
_OVERHANG_SECONDS = 1.0

# A byte order mark decides at once; the longer marks come first, because UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Free choice among all of Python's codecs takes short Chinese subtitles for Korean; these are the ones in use.
_ENCODINGS = ["gb18030", "big5", "shift_jis", "euc_kr", "cp1251", "cp1252", "latin_1"]

# No more digits than a time needs: Python refuses to read numbers of thousands.
_SRT_TIME = r"(?:(\d{1,9}):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
_SRT_TIMING = re.compile(rf"\s*{_SRT_TIME}\s*-->\s*{_SRT_TIME}(?:\s.*)?$")
_VTT_TIME = r"(?:(\d{2,9}):)?(\d{2}):(\d{2})\.(\d{3})"
_VTT_TIMING = re.compile(rf"\s*{_VTT_TIME}\s+-->\s+{_VTT_TIME}(?:\s.*)?$")

# A sentence ends after . ! ? … and a space, or after the full-width marks at once; closing quotes belong to it.
# Looking behind keeps a long row of dots from being read again from each of them.
_SENTENCE_END = re.compile(r"(?:(?<![.!?…])[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[”’」』）]*)\s*")
_ENDS_SENTENCE = re.compile(r"[.!?…。！？][\"'”’»)\]」』）]*$")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|[A-HJ-Z])\.$")
_LOWER_START = re.compile(r"\s*[^\W\d_A-Z]")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u3000-\u303f\uff00-\uffef]")


@dataclass(frozen=True)
class Words:
    """One cue of a transcript.

    Parameters
    ----------
    segment : Segment
        When it is said, in seconds.
    text : str
        What is said, without markup and without the name of who says it.
    speaker : str, optional
        Who says it; None where the transcript does not tell.

    Examples
    --------
    >>> Words(Segment(0.0, 1.5), "What a day.").segment.duration
    1.5
    """

    segment: Segment
    text: str
    speaker: str | None = None


def read_transcript(
    path: str | Path, duration: float | None = None, budget: Budget = DEFAULT_BUDGET
) -> tuple[Words, ...]:
    """Read the cues of a transcript.

    The suffix tells the format: ``.srt`` (SubRip), ``.vtt`` (WebVTT), ``.txt`` (sentences share the duration, or one
    nominal second, by their characters) or ``.json`` (``{"segments": [...]}`` as Whisper writes it,
    ``{"words": [...]}``, or a list of objects with ``start``, ``end`` and ``word`` or ``text``, in seconds; single
    words are grouped into utterances, each of one speaker).

    Speakers are told from WebVTT's voices (``<v Anna>``), from ``speaker`` of segments and words in JSON, and from
    ``Anna: What a day.`` at the beginning of a line. There the name must be a well-known role such as "Customer",
    "Speaker 1" or 客服, or occur more than once, or else every cue must begin with one, so that "Note: it rains." stays
    a sentence; and one in 200 cues must begin with a name (`affuse.media.speakers` states the rule). Speakers of one
    cue share its time by their characters.

    Parameters
    ----------
    path : str or Path
        The transcript.
    duration : float, optional
        Length of the recording in seconds.
    budget : Budget
        The most that a transcript may hold.

    Returns
    -------
    tuple of Words
        In order of time; overlapping cues are kept, empty ones dropped.

    Raises
    ------
    TranscriptError
        If it does not parse, with file and line, ends more than a second after ``duration`` or exceeds the budget.

    Examples
    --------
    >>> _ = Path("talk.srt").write_text("1\\n00:00:01,000 --> 00:00:02,500\\nCustomer: What a day.\\n")
    >>> read_transcript("talk.srt")
    (Words(segment=Segment(start=1.0, end=2.5), text='What a day.', speaker='Customer'),)
    """
    path = Path(path)
    text = _read_text(path, budget)
    suffix = path.suffix.lower()
    if suffix == ".txt":
        try:
            return spread(text, Segment(0.0, duration or 1.0), budget)
        except TranscriptError as error:
            raise TranscriptError(f"{path}: {error}") from error
    found = _PARSERS[suffix](path, text, budget)
    names = names_in(without_markup(cue.text).split("\n") for cue in found)
    cues = tuple(sorted((words for cue in found for words in _told(cue, names)), key=_when))
    _check_count(path, len(cues), budget)  # a cue of several speakers is several
    last = max((c.segment.end for c in cues), default=0.0)
    if duration is not None and last > duration + _OVERHANG_SECONDS:
        raise TranscriptError(
            f"{path} is longer than the recording: "
            f"its last cue ends at {last:.1f} s, the recording lasts {duration:.1f} s"
        )
    return cues


def _when(cue: Words) -> tuple[float, float]:
    return cue.segment.start, cue.segment.end


def _check_count(path: Path, count: int, budget: Budget) -> None:
    if why := budget.excess("max_cues", count):
        raise TranscriptError(f"{path} holds {count:,} cues or words; {why}")


def has_times(path: Path) -> bool:
    """Whether a transcript's format states times (plain text does not)."""
    return path.suffix.lower() != ".txt"


def spread(text: str, span: Segment, budget: Budget = DEFAULT_BUDGET) -> tuple[Words, ...]:
    """Split text into sentences that share ``span`` in proportion to their characters.

    A speaker's name before a colon (`read_transcript`) holds until the next one. Raises TranscriptError where they are
    more than the budget has cues.
    """
    if text.count("\n") + text.count("\r") > 2 * budget.max_cues:  # before there are as many lines
        raise TranscriptError(f"the text holds too many lines; {budget.named('max_cues')}")
    lines = _lines(text)
    parts = in_turns(lines, names_in([line] for line in lines))
    spoken = (Said(who, s) for who, part in parts for line in _unwrapped(part) for s in _sentences(line))
    said = list(islice(spoken, budget.max_cues + 1))
    if why := budget.excess("max_cues", len(said)):
        raise TranscriptError(f"the text holds too many sentences; {why}")
    return tuple(_shared(said, span))


def _shared(said: Sequence[Said], span: Segment) -> Iterator[Words]:
    """Parts of a text, which share ``span`` in proportion to their characters."""
    total = sum(len(part.text) for part in said)
    read = 0
    for speaker, text in said:
        start = span.start + span.duration * read / total
        read += len(text)
        yield Words(Segment(start, span.start + span.duration * read / total), text, speaker)


def _told(cue: Words, names: Mapping[str, str]) -> Iterator[Words]:
    """A cue without markup and names, one part a speaker; nothing where it holds no words."""
    said = by_speaker(cue.text, names, cue.speaker)
    if len(said) == 1:  # its own times, to the last bit
        yield Words(cue.segment, said[0].text, said[0].speaker)
    else:
        yield from _shared(said, cue.segment)


def _unwrapped(text: str) -> list[str]:
    """Lines of text; one that goes on in lower case is the rest of a hard-wrapped line."""
    lines: list[list[str]] = []  # the pieces of each
    after_blank = True
    for line in _lines(text):
        wrapped = not after_blank and _LOWER_START.match(line) and not _CJK.match(line.strip())
        if wrapped and not _ENDS_SENTENCE.search(lines[-1][-1]):
            lines[-1].append(line.strip())
        elif line.strip():
            lines.append([line.strip()])
        after_blank = not line.strip()
    return [" ".join(pieces) for pieces in lines]


def _sentences(line: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(line):
        yield line[start : end.end()].strip()
        start = end.end()
    if line[start:].strip():
        yield line[start:].strip()


def _read_text(path: Path, budget: Budget) -> str:
    if path.suffix.lower() not in TRANSCRIPT_SUFFIXES:
        raise TranscriptError(f"{path} is no known kind of transcript; it must end in {', '.join(TRANSCRIPT_SUFFIXES)}")
    if not path.is_file():
        raise TranscriptError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
    try:
        if why := budget.excess("max_text", path.stat().st_size):
            raise TranscriptError(f"{path} has {path.stat().st_size:,} bytes; {why}")
        return decode_text(path, path.read_bytes())
    except OSError as error:
        raise TranscriptError(f"{path} cannot be read: {error.strerror}") from error


def decode_text(path: Path, data: bytes) -> str:
    """Text of a file's bytes by its byte order mark, as UTF-8, or by the likeliest of the encodings in use.

    Raises TranscriptError where ``path`` holds no text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise TranscriptError(f"{path} starts as {encoding} but is broken at byte {error.start}") from error
    if b"\0" in data:
        raise TranscriptError(f"{path} is not a text file (byte {data.index(0)} is zero)")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _guessed(data)


def _guessed(data: bytes) -> str:
    from charset_normalizer import from_bytes  # only for texts that are not UTF-8

    best = from_bytes(data, cp_isolation=_ENCODINGS).best()
    return data.decode("latin-1") if best is None else str(best)


class _Block(NamedTuple):
    """Lines between blank lines; ``number`` is the first one's place in the file, counted from 1."""

    number: int
    lines: list[str]


def _lines(text: str) -> list[str]:
    # str.splitlines also breaks at separators that editors do not count as lines.
    return re.split(r"\r\n|\r|\n", text)


def _blocks(text: str) -> Iterator[_Block]:
    lines: list[str] = []
    start = 1
    for number, line in enumerate([*_lines(text), ""], 1):
        if line.strip():
            if not lines:
                start = number
            lines.append(line)
        elif lines:
            yield _Block(start, lines)
            lines = []


def _wrong_time(path: Path, number: int, line: str, example: str) -> TranscriptError:
    shown = line.strip()
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return TranscriptError(f"{path}, line {number}: expected a time like {example}; got '{shown}'")


def _times(path: Path, number: int, match: re.Match[str], budget: Budget) -> Segment:
    numbers = match.groups()
    return _segment(_seconds(numbers[:4]), _seconds(numbers[4:]), f"{path}, line {number}", budget)


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = parts
    # ",5" is half a second: the digits are a decimal fraction.
    return (int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds or 0) + float(f"0.{fraction}")


def _segment(start: float, end: float, where: str, budget: Budget) -> Segment:
    if end < start:
        raise TranscriptError(f"{where}: the cue ends at {end:g} s, before it starts at {start:g} s")
    end = max(end, start + _INSTANT_SECONDS)
    if why := budget.excess("max_duration", end):
        raise TranscriptError(f"{where}: the cue ends at {end:,.12g} s; {why}")
    return Segment(start, end)


_SRT_EXAMPLE = "00:00:01,000 --> 00:00:02,500"
_VTT_EXAMPLE = "00:01.000 --> 00:02.500"


def _parse_srt(path: Path, text: str, budget: Budget) -> list[Words]:
    cues: list[tuple[Segment, list[str]]] = []
    for number, lines in _blocks(text):
        counted = lines[0].strip().isdigit() and (len(lines) > 1 or not cues)
        at = 1 if counted and len(lines) > 1 else 0
        match = _SRT_TIMING.match(lines[at])
        if match:
            cues.append((_times(path, number + at, match, budget), lines[at + 1 :]))
            _check_count(path, len(cues), budget)
        elif counted or not cues or "->" in lines[at] or _SRT_TIMING.match(lines[-1]):
            raise _wrong_time(path, number + at, lines[at], _SRT_EXAMPLE)
        else:  # a blank line inside the words of a cue
            cues[-1][1].extend(lines)
    return [Words(segment, "\n".join(lines)) for segment, lines in cues]


def _parse_vtt(path: Path, text: str, budget: Budget) -> list[Words]:
    blocks = list(_blocks(text))
    if not blocks or not re.match(r"WEBVTT(\s|$)", blocks[0].lines[0]):
        got = blocks[0].lines[0].strip()[:60] if blocks else ""
        raise TranscriptError(
            f"{path}, line {blocks[0].number if blocks else 1}: expected the header WEBVTT; got '{got}'"
        )
    cues: list[Words] = []
    for number, lines in blocks[1:]:
        if re.match(r"(NOTE|STYLE|REGION)(\s|$)", lines[0]):
            continue
        at = 0 if "-->" in lines[0] or len(lines) == 1 else 1  # the line before the time is the cue's name
        match = _VTT_TIMING.match(lines[at])
        if match is None:
            raise _wrong_time(path, number + at, lines[at], _VTT_EXAMPLE)
        cues.append(Words(_times(path, number + at, match, budget), "\n".join(lines[at + 1 :])))
        _check_count(path, len(cues), budget)
    return cues


def _parse_json(path: Path, text: str, budget: Budget) -> list[Words]:
    if not text.strip():
        return []
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise TranscriptError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise TranscriptError(f"{path}: its JSON is nested too deeply") from error
    except ValueError as error:  # a whole number of more than 4,300 digits
        raise TranscriptError(f"{path}: its JSON holds a number that is too long to be read") from error
    if isinstance(data, list):
        return _listed(path, "", data, budget)
    for key in ("segments", "words"):
        if isinstance(data, dict) and isinstance(data.get(key), list):
            return _listed(path, key, data[key], budget)
    raise TranscriptError(f'{path}: expected {{"segments": [...]}}, {{"words": [...]}} or a list of words with times')


def _listed(path: Path, key: str, items: list[Any], budget: Budget, speaker: str | None = None) -> list[Words]:
    """Cues of a list of segments or words; ``speaker`` says them where they do not name another one."""
    _check_count(path, len(items), budget)
    cues: list[Words] = []
    words: list[Words] = []
    before, behind = (f"{path}, {key}[", "]") if key else (f"{path}, item ", "")
    for index, item in enumerate(items):
        where = f"{before}{index}{behind}"
        if not isinstance(item, dict):
            raise TranscriptError(f"{where}: expected an object with start, end and text; got {json.dumps(item)[:60]}")
        if key == "words" or "word" in item:
            words.append(_word(where, item, words[-1] if words else None, speaker, budget))
        elif isinstance(item.get("text"), str) and not _shares_speakers(item):
            speaks = _speaker(where, item) or _lone_speaker(where, item)
            cues.append(Words(_timed(where, item, budget), item["text"], speaks))
        elif isinstance(item.get("words"), list):
            cues += _listed(path, "words", item["words"], budget, _speaker(where, item))
        else:
            raise TranscriptError(f"{where}: it has neither text nor words")
    return cues + list(utterances(words))


def _inner_words(item: dict[str, Any]) -> list[dict[str, Any]]:
    words = item.get("words")
    return [word for word in words if isinstance(word, dict)] if isinstance(words, list) else []


def _shares_speakers(segment: dict[str, Any]) -> bool:
    """Whether the words of a segment are said by more than one speaker."""
    if "words" not in segment:
        return False
    named = {json.dumps(w["speaker"]) for w in _inner_words(segment) if w.get("speaker") is not None}
    return len(named) > 1


def _lone_speaker(where: str, segment: dict[str, Any]) -> str | None:
    """The speaker whom only the words of a segment name."""
    return next((name for word in _inner_words(segment) if (name := _speaker(where, word))), None)


def _speaker(where: str, item: dict[str, Any]) -> str | None:
    """Who speaks by a segment or word; recognisers give a name or a number."""
    value = item.get("speaker")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"speaker {value}"
    if value is not None and not isinstance(value, str):
        raise TranscriptError(f"{where}: expected speaker as a name or a number; got {json.dumps(value)[:60]}")
    return " ".join(value.split()) or None if value else None


def _word(where: str, item: dict[str, Any], previous: Words | None, speaker: str | None, budget: Budget) -> Words:
    """A word as written: Whisper's carry the space before them."""
    text = item.get("word", item.get("text"))
    if not isinstance(text, str):
        raise TranscriptError(f"{where}: expected a word as text; got {json.dumps(text)[:60]}")
    own = _speaker(where, item)
    if "start" not in item and "end" not in item and previous is not None:
        # WhisperX leaves out the times, and then the speakers, of words that it could not align, such as numbers.
        end = previous.segment.end
        return Words(Segment(end, end + _INSTANT_SECONDS), text, own or previous.speaker)
    return Words(_timed(where, item, budget), text, own or speaker)


def _timed(where: str, item: dict[str, Any], budget: Budget) -> Segment:
    start, end = _number(where, "start", item.get("start")), _number(where, "end", item.get("end"))
    return _segment(start, end, where, budget)


def _number(where: str, name: str, value: Any) -> float:
    if isinstance(value, float) and 0 <= value < math.inf:
        return value
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise TranscriptError(f"{where}: expected {name} in seconds, a number from 0; got {json.dumps(value)[:60]}")
    return number


def utterances(words: Sequence[Words], pause: float = _PAUSE_SECONDS) -> Iterator[Words]:
    """Single words joined into utterances of one speaker, which end at a pause (seconds) or with a sentence.

    Others may speak in between, or at the same time. Texts are joined as they are written, with spaces where none of
    them has its own.
    """
    spoken: dict[str | None, list[Words]] = {}
    for word in words:
        spoken.setdefault(word.speaker, []).append(word)
    for own in spoken.values():
        group: list[Words] = []
        for word in sorted(own, key=lambda w: w.segment):
            if group and (word.segment.start - group[-1].segment.end > pause or _ends_sentence(group[-1].text)):
                yield _utterance(group)
                group = []
            group.append(word)
        yield _utterance(group)


def _ends_sentence(word: str) -> bool:
    return bool(_ENDS_SENTENCE.search(word.strip())) and not _ABBREVIATION.search(word.strip())


def _utterance(group: Sequence[Words]) -> Words:
    segment = Segment(group[0].segment.start, max(w.segment.end for w in group))
    spaced = any(w.text[:1].isspace() for w in group)
    pieces = [group[0].text]
    for before, word in pairwise(group):
        apart = not spaced and not (_CJK.search(before.text[-1:]) and _CJK.search(word.text[:1]))
        pieces += [" " if apart else "", word.text]
    return Words(segment, "".join(pieces), group[0].speaker)


_PARSERS = {".srt": _parse_srt, ".vtt": _parse_vtt, ".json": _parse_json}
