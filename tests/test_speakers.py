"""Who says the words of a transcript: names are told from sentences, and are never part of the words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from jsonschema import validate

from affuse.analyzer import Analyzer, load_experts
from affuse.errors import TranscriptError
from affuse.media import Excerpt, Recording, read_transcript
from affuse.report import schema
from affuse.timeline import Timeline

Read = Callable[[str, str], list[tuple[str | None, str]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_text(name: str, text: str) -> list[tuple[str | None, str]]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return [(cue.speaker, cue.text) for cue in read_transcript(path)]

    return read_text


def srt(*cues: str) -> str:
    times = "00:00:{:02d},000 --> 00:00:{:02d},000"
    return "\n".join(f"{i}\n{times.format(2 * i, 2 * i + 2)}\n{cue}\n" for i, cue in enumerate(cues, 1))


@pytest.mark.parametrize(
    ("line", "speaker", "words"),
    [
        ("Customer: I am furious!", "Customer", "I am furious!"),
        ("CUSTOMER: I am furious!", "CUSTOMER", "I am furious!"),
        ("[Agent]: I see.", "Agent", "I see."),
        ("[Agent] : I see.", "Agent", "I see."),
        ("- Agent: I see.", "Agent", "I see."),
        (">> AGENT: I see.", "AGENT", "I see."),
        ("<i>Agent:</i> I see.", "Agent", "I see."),
        ("Agent (softly): I see.", "Agent", "I see."),
        ("speaker 1: Well: yes.", "speaker 1", "Well: yes."),
        ("SPEAKER_00: Yes.", "SPEAKER_00", "Yes."),
        ("Speaker A:Yes.", "Speaker A", "Yes."),
        ("Q: Why?", "Q", "Why?"),
        ("客户：我很生气！", "客户", "我很生气！"),
        ("客服1: 您好。", "客服1", "您好。"),
        ("【客服】您好", None, "【客服】您好"),
        ("a: why", None, "a: why"),
    ],
)
def test_a_role_is_a_name_wherever_it_stands(read: Read, line: str, speaker: str | None, words: str) -> None:
    assert read("a.srt", srt(line)) == [(speaker, words)]
    assert read("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n" + line + "\n") == [(speaker, words)]


@pytest.mark.parametrize(
    "line",
    [
        "Note: this is the last one.",
        "Meet me at 12:30.",
        "12:30 is too late.",
        "Room 12:30 people.",
        "See Http://example.org",
        "http://example.org",
        "I told him one thing: go away.",
        "One thing: go away.",
        "The truth is this: I am sad.",
        "What a day :)",
        "他说：我很好。",
        "问题是：我没有钱。",
        "注意：下雨了。",
        "- Tom and I left: it was over.",
    ],
)
def test_a_sentence_with_a_colon_stays_a_sentence(read: Read, line: str) -> None:
    for lines in ([line], [line, line], ["Hello.", line, line]):  # however often it occurs
        assert read("a.srt", srt(*lines)) == [(None, text) for text in lines]


def test_a_name_occurs_more_than_once_or_every_cue_has_one(read: Read) -> None:
    assert read("a.srt", srt("Anna: Hi.", "Who?")) == [(None, "Anna: Hi."), (None, "Who?")]
    assert read("a.srt", srt("Anna: Hi.")) == [(None, "Anna: Hi.")]
    assert read("a.srt", srt("Anna: Hi.", "Ben: Ho.")) == [("Anna", "Hi."), ("Ben", "Ho.")]
    twice = srt("Dr. Anna O'Neil: Hi.", "Who?", "DR. ANNA O'NEIL: Me. Dear Ben: go!", "Vincent van Gogh: No")
    assert read("a.srt", twice) == [
        ("Dr. Anna O'Neil", "Hi."),
        (None, "Who?"),
        ("Dr. Anna O'Neil", "Me. Dear Ben: go!"),
        (None, "Vincent van Gogh: No"),
    ]


def test_speakers_of_one_cue_share_its_time(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text(srt("Anna: Where were\nyou?\n- Ben: Home.\n- Aha.", "Anna: Hm.", "Ben: So."))
    spans = [(round(c.segment.start, 4), round(c.segment.end, 4), c.speaker, c.text) for c in read_transcript(path)]
    step = 2 / 26  # 15, 5 and 6 characters
    assert spans[:3] == [
        (2.0, round(2 + 15 * step, 4), "Anna", "Where were you?"),
        (round(2 + 15 * step, 4), round(2 + 20 * step, 4), "Ben", "Home."),
        (round(2 + 20 * step, 4), 4.0, None, "- Aha."),
    ]


def test_voices_of_webvtt(tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    cue = "<v.loud Ann Smith>Hello <b>you</b></v>\n<v Ben &amp; Co>Agent: no</v> they <v>left"
    path.write_text(f"WEBVTT\n\n00:00.000 --> 00:30.000\n{cue}\n\n00:30.000 --> 00:31.000\nplain\n")
    cues = [(round(c.segment.start, 3), c.speaker, c.text) for c in read_transcript(path)]
    # 9, 2, 4 and 4 characters share 30 seconds; a label inside a voice is no part of the words either
    assert [c[1:] for c in cues] == [
        ("Ann Smith", "Hello you"),
        ("Agent", "no"),
        (None, "they"),
        (None, "left"),
        (None, "plain"),
    ]
    assert [c[0] for c in cues] == [0.0, round(30 * 9 / 19, 3), round(30 * 11 / 19, 3), round(30 * 15 / 19, 3), 30.0]


def test_plain_text(read: Read, tmp_path: Path) -> None:
    text = "The call began.\n\nCustomer:\nI am furious! I was\npromised it.\n\nSince May.\nagent: I see: sorry.\n"
    expected = [
        (None, "The call began."),
        ("Customer", "I am furious!"),
        ("Customer", "I was promised it."),
        ("Customer", "Since May."),
        ("agent", "I see: sorry."),
    ]
    assert read("a.txt", text) == expected
    assert [(c.speaker, c.text) for c in Recording.from_text(text).cues] == expected
    assert read("b.txt", "I <3 you &amp; me.\nQ: a <b> c?") == [(None, "I <3 you &amp; me."), ("Q", "a <b> c?")]


WORDS = [
    {"word": "I", "start": 0.0, "end": 0.2, "speaker": "SPEAKER_00"},
    {"word": "1984", "speaker": "SPEAKER_00"},
    {"word": "Yes", "start": 0.3, "end": 0.6, "speaker": "SPEAKER_01"},
    {"word": "know", "start": 0.4, "end": 0.7, "speaker": "SPEAKER_00"},
]
BY_SPEAKER = [("SPEAKER_00", "I 1984 know"), ("SPEAKER_01", "Yes")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (WORDS, BY_SPEAKER),
        ({"words": WORDS}, BY_SPEAKER),
        ({"segments": [{"start": 0, "end": 1, "text": "I 1984 Yes know", "words": WORDS, "speaker": "X"}]}, BY_SPEAKER),
        ({"segments": [{"start": 0, "end": 1, "text": "I know.", "words": WORDS[::3]}]}, [("SPEAKER_00", "I know.")]),
        ({"segments": [{"start": 0, "end": 1, "speaker": "Ann", "text": " Hi."}]}, [("Ann", "Hi.")]),
        ({"segments": [{"start": 0, "end": 1, "speaker": 0, "text": "Hi."}]}, [("speaker 0", "Hi.")]),
        ({"segments": [{"start": 0, "end": 1, "speaker": None, "text": "Agent: Hi."}]}, [("Agent", "Hi.")]),
        (
            {"segments": [{"start": 0, "end": 1, "speaker": "Ann", "words": [{"word": "Hi", "start": 0, "end": 1}]}]},
            [("Ann", "Hi")],
        ),
    ],
)
def test_json_names_speakers(read: Read, data: object, expected: list[tuple[str | None, str]]) -> None:
    assert read("a.json", json.dumps(data)) == expected


def test_json_mistakes_name_the_place(read: Read) -> None:
    with pytest.raises(
        TranscriptError, match=r"a\.json, segments\[0\]: expected speaker as a name or a number; got \["
    ):
        read("a.json", json.dumps({"segments": [{"start": 0, "end": 1, "speaker": ["Ann"], "text": "Hi."}]}))


def test_an_excerpt_keeps_the_speakers(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text(srt("Agent: Hi.", "Customer: Ho."))
    assert [c.speaker for c in Excerpt(Recording.open(path), 3.0, 5.0).cues] == ["Agent", "Customer"]


def test_labels_reach_the_answer_and_not_the_expert(tmp_path: Path) -> None:
    expert = load_experts({"text": "text"})["text"]
    path = tmp_path / "call.srt"
    said = "I am furious!", "Oh, I am so sorry."

    def read(*cues: str) -> np.ndarray:
        path.write_text(srt(*cues), encoding="utf-8")
        recording = Recording.open(path)
        return expert.read(recording, Timeline.windows(recording.duration, 3.0, 1.0))[0].probabilities

    np.testing.assert_array_equal(read(f"Customer: {said[0]}", f"Agent: {said[1]}"), read(*said))
    path.write_text(srt(f"Customer: {said[0]}", f"Agent: {said[1]}"), encoding="utf-8")
    answer = Analyzer({"text": expert}).analyze(path).to_dict()
    validate(answer, schema())
    assert [(cue["speaker"], cue["text"]) for cue in answer["cues"]] == [("Customer", said[0]), ("Agent", said[1])]
    for cue in answer["cues"]:
        del cue["speaker"]  # as it was written before speakers were known
    validate(answer, schema())


def segments(sentences: Sequence[str]) -> str:
    return json.dumps({"segments": [{"start": i, "end": i + 1, "text": text} for i, text in enumerate(sentences)]})


def test_beginnings_that_recur_among_thousands_of_sentences_name_nobody(read: Read) -> None:
    sentences = [f"It rains in town {number}." for number in range(1200)]
    for place in (100, 500, 900):
        sentences[place] = "Itt: people who like rain."
    sentences[700] = "Doctor: no."
    assert {speaker for speaker, _ in read("a.json", segments(sentences))} == {None}


def test_a_small_part_is_a_name_where_turns_are_marked(read: Read) -> None:
    sentences = [f"{('Anna', 'Ben')[number % 2]}: it rains in town {number}." for number in range(1200)]
    sentences[3] = sentences[9] = "Zoe: hello."
    assert {speaker for speaker, _ in read("a.json", segments(sentences))} == {"Anna", "Ben", "Zoe"}


def test_names_that_stand_only_where_speakers_change_are_enough(read: Read) -> None:
    sentences = [f"It rains in town {number}." for number in range(1000)]
    for place in range(0, 1000, 200):  # one in 200
        sentences[place] = f"{('Anna', 'Ben')[place // 200 % 2]}: {sentences[place]}"
    assert {speaker for speaker, _ in read("a.json", segments(sentences))} == {"Anna", "Ben", None}
