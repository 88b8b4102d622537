"""Transcripts: what is read from each format, and what is said about each mistake."""

from __future__ import annotations

import json

import pytest

from affuse.errors import TranscriptError
from affuse.media import Words, read_transcript
from affuse.timeline import Segment


@pytest.fixture
def read(tmp_path):
    def read_text(name: str, text: str | bytes, duration: float | None = None) -> list[tuple[float, float, str]]:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return [(round(c.segment.start, 3), round(c.segment.end, 3), c.text) for c in read_transcript(path, duration)]

    return read_text


SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello.\n\n2\n01:02:03,045 --> 01:02:04,500\nTwo\nlines.\n"


def test_srt(read, tmp_path):
    assert read("a.srt", SRT) == [(1.0, 2.5, "Hello."), (3723.045, 3724.5, "Two lines.")]
    assert read_transcript(tmp_path / "a.srt")[0] == Words(Segment(1.0, 2.5), "Hello.")


@pytest.mark.parametrize(
    "change", [("\n", "\r\n"), ("\n\n", "\n\n\n\n"), (",", "."), ("1\n", "\n", 1), (",500\n", ",500 X1:10 X2:20\n")]
)
def test_srt_as_found_in_the_wild(read, change):
    assert read("a.srt", SRT.replace(*change))[0] == (1.0, 2.5, "Hello.")


def test_srt_without_counters_hours_or_all_digits(read):
    assert read("a.srt", "00:01,5 --> 00:02,25\nHi.\n\n00:03,000 --> 00:04,000\nHo.\n") == [
        (1.5, 2.25, "Hi."),
        (3.0, 4.0, "Ho."),
    ]


def test_srt_words_may_hold_blank_lines_and_numbers(read):
    text = "1\n00:00:01,000 --> 00:00:02,000\nI have\n\nmore words\n\n2\n00:00:03,000 --> 00:00:04,000\n42\n"
    assert read("a.srt", text) == [(1.0, 2.0, "I have more words"), (3.0, 4.0, "42")]


def test_markup_is_stripped_and_empty_cues_are_dropped(read):
    cue = "{{}}\n00:00:0{0},000 --> 00:00:0{1},000\n{2}\n\n"
    lines = [r"{\an8}<i>Stop</i> <font color='#fff'>it</font> &amp; go", "<b></b>", "3 < 4 &lt;b&gt; and {no} 5 > 2"]
    text = "".join(cue.format(i, i + 1, line).replace("{}", str(i)) for i, line in enumerate(lines, 1))
    assert read("a.srt", text) == [(1.0, 2.0, "Stop it & go"), (3.0, 4.0, "3 < 4 <b> and {no} 5 > 2")]


def test_unordered_and_overlapping_cues_are_sorted_and_kept(read):
    cues = [(5, 6, "late"), (1, 9, "long"), (1, 2, "short")]
    text = "\n".join(f"00:00:0{start},000 --> 00:00:0{end},000\n{words}\n" for start, end, words in cues)
    assert read("a.srt", text) == [(1.0, 2.0, "short"), (1.0, 9.0, "long"), (5.0, 6.0, "late")]


def test_vtt(read):
    text = (
        "WEBVTT - a talk\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE\nnobody --> sees this\n\nintro\n"
        "00:01.000 --> 00:02.500 align:start position:0%\n<v Ann>So <c.loud>this</c> is<00:02.000> it</v>\n\n"
        "01:00:00.000 --> 01:00:01.000\n- Tom &amp; I\n- you\n"
    )
    assert read("a.vtt", text) == [(1.0, 2.5, "So this is it"), (3600.0, 3601.0, "- Tom & I - you")]


@pytest.mark.parametrize(
    ("name", "text", "line", "rest"),
    [
        (
            "a.srt",
            "1\n00:00:01,000 -> 00:00:02,000\nHi\n",
            2,
            "expected a time like 00:00:01,000 --> 00:00:02,500; got '00:00:01,000 -> 00:00:02,000'",
        ),
        ("a.srt", SRT + "\n3\nno time here\n", 11, "got 'no time here'"),
        ("a.srt", "Hello\n", 1, "got 'Hello'"),
        ("a.srt", "1\n00:00:01,000 --> \nHi\n", 2, "got '00:00:01,000 -->'"),
        ("a.srt", "\n\nx\n" + SRT, 3, "got 'x'"),
        ("a.srt", "1\n00:00:03,000 --> 00:00:02,000\nHi\n", 2, "the cue ends at 2 s, before it starts at 3 s"),
        ("a.vtt", "00:01.000 --> 00:02.000\nHi\n", 1, "expected the header WEBVTT; got '00:01.000 --> 00:02.000'"),
        ("a.vtt", "", 1, "expected the header WEBVTT; got ''"),
        (
            "a.vtt",
            "WEBVTT\n\nname\n00:01,000 --> 00:02,000\nHi\n",
            4,
            "expected a time like 00:01.000 --> 00:02.500; got '00:01,000 --> 00:02,000'",
        ),
        ("a.vtt", "WEBVTT\n\nlost words\n", 3, "got 'lost words'"),
        ("a.json", '{"words": [\n{"word": }\n]}', 2, "not valid JSON"),
    ],
)
def test_mistakes_name_file_and_line(read, name, text, line, rest):
    with pytest.raises(TranscriptError) as caught:
        read(name, text)
    assert f"{name}, line {line}: " in str(caught.value)
    assert rest in str(caught.value)
    assert "\n" not in str(caught.value)


def test_long_lines_are_shortened_in_errors(read):
    with pytest.raises(TranscriptError, match=r"got 'x{57}\.\.\.'$"):
        read("a.srt", "x" * 500)


def test_plain_text_shares_the_duration_by_characters(read):
    text = "Why me?  I am so happy today.\nNo way!\n"  # 7, 20 and 7 characters
    expected = [(0.0, 7.0, "Why me?"), (7.0, 27.0, "I am so happy today."), (27.0, 34.0, "No way!")]
    assert read("a.txt", text, 34.0) == expected


def test_plain_text_sentences(read):
    def sentences(text):
        return [c[2] for c in read("a.txt", text, 10.0)]

    assert sentences('It costs 3.50 now. "Really?" he said... Yes') == [
        "It costs 3.50 now.",
        '"Really?"',
        "he said...",
        "Yes",
    ]
    assert sentences("今天很高兴。你呢？“不错！”好") == ["今天很高兴。", "你呢？", "“不错！”", "好"]
    assert sentences("this line was\nwrapped by hand.\nNew one\n\nafter a gap") == [
        "this line was wrapped by hand.",
        "New one",
        "after a gap",
    ]
    assert sentences("我很好\n你呢") == ["我很好", "你呢"]
    assert sentences(" \n\n") == []


def test_whisper_json(read):
    data = {
        "text": " Hi there. Bye.",
        "segments": [
            {
                "id": 0,
                "start": 0.0,
                "end": 1.5,
                "text": " Hi there.",
                "words": [{"word": " Hi", "start": 0.0, "end": 0.4}],
            },
            {"id": 1, "start": 2.0, "end": 2.0, "text": " Bye."},
        ],
    }
    assert read("a.json", json.dumps(data)) == [(0.0, 1.5, "Hi there."), (2.0, 2.01, "Bye.")]


WORDS = [
    {"word": "I", "start": 0.0, "end": 0.2},
    {"word": "know", "start": 0.3, "end": 0.6},
    {"word": "it", "start": 1.3, "end": 1.5},
    {"word": "now.", "start": 1.5, "end": 1.8},
    {"word": "Good", "start": 1.9, "end": 2.2},
]
UTTERANCES = [(0.0, 0.6, "I know"), (1.3, 1.8, "it now."), (1.9, 2.2, "Good")]


@pytest.mark.parametrize(
    "data",
    [
        WORDS,
        WORDS[::-1],
        {"words": WORDS},
        {"words": [{"text": w["word"], "start": w["start"], "end": w["end"]} for w in WORDS]},
        {"words": [w | {"word": " " + w["word"]} for w in WORDS]},
        {"segments": [{"start": 0.0, "end": 2.2, "words": WORDS}]},
    ],
)
def test_bare_words_are_grouped_at_pauses_and_ends_of_sentences(read, data):
    assert read("a.json", json.dumps(data)) == UTTERANCES


def test_json_words_as_recognisers_write_them(read):
    chinese = [
        {"word": w, "start": i / 10, "end": i / 10 + 0.1} for i, w in enumerate(["我", "很", "高兴", "OK", "吗"])
    ]
    assert read("a.json", json.dumps(chinese))[0][2] == "我很高兴 OK 吗"
    unaligned = [WORDS[0], {"word": "1984"}, WORDS[1]]
    assert read("b.json", json.dumps(unaligned)) == [(0.0, 0.6, "I 1984 know")]
    assert read("c.json", json.dumps([{"text": "One cue.", "start": 1, "end": 2}])) == [(1.0, 2.0, "One cue.")]
    assert read("d.json", '{"segments": []}') == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"results": []}, 'expected {"segments"'),
        ("words", 'expected {"segments"'),
        ([{"word": "a", "start": "soon", "end": 1}], 'item 0: expected start in seconds, a number from 0; got "soon"'),
        ({"words": [WORDS[0], {"word": "a", "start": 1}]}, r"words\[1\]: expected end in seconds"),
        (
            {"segments": [{"start": 0, "end": 1, "text": "a"}, 7]},
            r"segments\[1\]: expected an object with start, end and text; got 7",
        ),
        ({"segments": [{"start": 0, "end": 1}]}, r"segments\[0\]: it has neither text nor words"),
        ({"words": [{"start": 0, "end": 1}]}, r"words\[0\]: expected a word as text; got null"),
        ({"words": [{"word": "a", "start": 2, "end": 1}]}, r"words\[0\]: the cue ends at 1 s, before it starts at 2 s"),
        ({"words": [{"word": "a", "start": -1, "end": 1}]}, r"words\[0\]: expected start"),
    ],
)
def test_json_mistakes(read, data, message):
    with pytest.raises(TranscriptError, match=rf"a\.json.*{message}"):
        read("a.json", json.dumps(data))


CUE = "1\n00:00:01,000 --> 00:00:02,000\n{}\n"


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        ("Ça va très bien — 你好", "utf-8"),
        ("Ça va 你好", "utf-8-sig"),
        ("Ça va 你好", "utf-16"),
        ("Ça va 你好", "utf-16-be"),
        ("Ça va 你好", "utf-32"),
        ("我很难过，因为下雨了。", "gb18030"),
        ("我今天很高興，謝謝你。", "big5"),
        ("C'était déjà l'été. Où êtes-vous ?", "latin-1"),
        ("Ich weiß nicht, was schöner wäre.", "latin-1"),
        ("こんにちは、元気ですか。", "shift_jis"),
        ("Привет, как дела? Мне грустно.", "cp1251"),
    ],
)
def test_encodings(read, words, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    assert read("a.srt", (mark + CUE.format(words)).encode(encoding)) == [(1.0, 2.0, words)]


def test_a_binary_file_is_refused(read):
    with pytest.raises(TranscriptError, match=r"a\.srt is not a text file \(byte 3 is zero\)"):
        read("a.srt", b"abc\0def")
    with pytest.raises(TranscriptError, match=r"a\.srt starts as utf-16 but is broken at byte"):
        read("a.srt", "\ufeffabc".encode("utf-16-le") + b"\x00")


def test_transcripts_longer_than_the_recording(read):
    assert read("a.srt", "00:00:01,000 --> 00:01:00,900\nHi\n", 60.0) == [(1.0, 60.9, "Hi")]
    with pytest.raises(
        TranscriptError,
        match=r"a\.srt is longer than the recording: its last cue ends at 75\.0 s, the recording lasts 60\.0 s",
    ):
        read("a.srt", "00:00:01,000 --> 00:01:15,000\nHi\n\n00:00:02,000 --> 00:00:03,000\nHo\n", 60.0)


def test_missing_files_folders_and_unknown_kinds(tmp_path, read):
    with pytest.raises(TranscriptError, match=r"absent\.srt does not exist"):
        read_transcript(tmp_path / "absent.srt")
    (tmp_path / "folder.srt").mkdir()
    with pytest.raises(TranscriptError, match=r"folder\.srt is not a file"):
        read_transcript(tmp_path / "folder.srt")
    with pytest.raises(
        TranscriptError, match=r"talk\.docx is no known kind of transcript; it must end in \.srt, \.vtt, \.txt, \.json"
    ):
        read("talk.docx", "hello")
    assert read("empty.srt", "") == read("empty.json", " ") == read("empty.txt", "") == []
