"""People's own data: what is read, how it is split, and what is told before anything starts."""

from __future__ import annotations

import csv
import os
import wave
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from affuse.data.corpora import load
from affuse.data.own import DataOptions, Sample, TrainingData, clip, picture, read, waveform
from affuse.data.own.splits import set_aside
from affuse.errors import ConfigError, DataError, MediaError
from affuse.experts.face.crop import crop_face
from affuse.experts.face.detect import default_detector
from affuse.labels import CANONICAL, EKMAN, FERPLUS, RAVDESS, SENTIMENT, SYNONYMS, recognise
from affuse.media import SAMPLE_RATE, Recording
from affuse.timeline import Segment, Timeline

SKIP = DataOptions(bad_rows="skip")
KEEP = DataOptions(unlabelled="keep")


def write_wav(path: Path, seconds: float = 1.0, amplitude: float = 0.3, frequency: float = 300.0) -> Path:
    """A tone at 16 kHz, whose content depends on its length, loudness and pitch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    samples = (32767 * amplitude * np.sin(2 * np.pi * frequency * time)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def write_png(path: Path, seed: int, size: tuple[int, int] = (48, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_table(path: Path, header: str, rows: Iterable[Sequence[object]], encoding: str = "utf-8") -> Path:
    separator = "\t" if path.suffix == ".tsv" else ","
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(header.split())
        writer.writerows(rows)
    return path


def voices(folder: Path, names: Iterable[str]) -> Path:
    """Tones under ``folder``, each with a pitch of its own, so that no two are copies."""
    for i, name in enumerate(names):
        write_wav(folder / name, frequency=200 + 7 * i)
    return folder


def sentences(n: int) -> list[str]:
    return [f"this is the sentence number {i} of the data" for i in range(n)]


def labels_of(data: TrainingData) -> dict[str, str]:
    """Label by file name."""
    named = ((s.path, s.label) for s in data.samples)
    return {path.name: data.labels.labels[label] for path, label in named if path is not None and label is not None}


def counts(data: TrainingData) -> dict[str, int]:
    return {split: len(data.split(split)) for split in ("train", "dev", "test")}


def refusal(source: str | Path, modality: str, options: DataOptions | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(source, modality, options or DataOptions())
    return str(caught.value)


# Labels


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("Angry", "anger"),
        (" HAPPY ", "happiness"),
        ("joy", "happiness"),
        ("fearful", "fear"),
        ("Wütend", "anger"),
        ("wuetend", "anger"),
        ("glücklich", "happiness"),
        ("Überraschung", "surprise"),
        ("高兴", "happiness"),
        ("憤怒", "anger"),
        ("中性", "neutral"),
        ("负面", "negative"),
        ("pos", "positive"),
        ("ANG", None),
        ("W", None),
        ("7", None),
        ("", None),
    ],
)
def test_labels_are_recognised_in_three_languages(word: str, label: str | None) -> None:
    assert recognise(word) == label


def test_every_label_has_words_and_means_itself() -> None:
    assert set(SYNONYMS.values()) == set(CANONICAL)
    assert all(recognise(label) == label for label in CANONICAL)
    assert set(EKMAN.labels) | set(SENTIMENT.labels) | set(FERPLUS.labels) | set(RAVDESS.labels) <= set(CANONICAL)


# Folders


def test_subfolders_name_labels_and_speakers_stay_whole(tmp_path: Path) -> None:
    names = [
        f"{label}/s{speaker}_{take}.wav" for label in ("angry", "traurig") for speaker in range(1, 6) for take in "ab"
    ]
    data = read(voices(tmp_path, names), "voice")
    assert data.labels.labels == ("anger", "sadness")
    assert labels_of(data)["s1_a.wav"] in data.labels.labels
    assert counts(data) == {"train": 16, "dev": 4, "test": 0}
    assert {s.speaker for s in data.samples} == {"s1", "s2", "s3", "s4", "s5"}
    assert len({s.speaker for s in data.split("dev")}) == 1
    assert all("angry" in str(s.path) for s in data.samples if s.label == 0)
    assert any("angry as anger" in note for note in data.notes)


def test_labels_may_be_words_of_file_names(tmp_path: Path) -> None:
    names = ["spk3_angry_02.wav", "spk3-angry.wav", "spk3_Neutral.wav", "x neutral spk3.wav"]
    names += [name.replace("spk3", "Actor 7") for name in names]
    data = read(voices(tmp_path, names), "voice")
    assert labels_of(data) == {name: "anger" if "angry" in name else "neutral" for name in names}
    assert {s.speaker for s in data.samples} == {"spk3", "actor 7"}


def test_a_word_within_a_folder_name_is_a_label_and_other_folders_are_speakers(tmp_path: Path) -> None:
    names = [
        f"{who}/OAF_{label}/{i}.wav"
        for who in ("anna", "ben", "cem", "dora", "eva")
        for label in ("Fear", "sad")
        for i in "ab"
    ]
    data = read(voices(tmp_path, names), "voice")
    assert data.labels.labels == ("fear", "sadness")
    assert {s.speaker for s in data.split("dev")} < {"anna", "ben", "cem", "dora", "eva"}
    assert any("5 folders were taken for speakers" in note for note in data.notes)


def test_folders_that_are_no_emotions_are_labels_of_their_own(tmp_path: Path) -> None:
    for i in range(8):
        write_png(tmp_path / ("glasses" if i % 2 else "beard") / f"{i}.png", seed=i)
    data = read(tmp_path, "face")
    assert data.labels.labels == ("beard", "glasses")
    assert any("no emotions known to affuse" in note and "beard, glasses" in note for note in data.notes)
    assert any("no speakers are known" in note for note in data.notes)


def test_split_folders_are_kept_and_dev_is_taken_from_train_where_it_is_missing(tmp_path: Path) -> None:
    for split, n in (("train", 10), ("test", 4)):
        for i in range(n):
            write_png(tmp_path / split / ("happy" if i % 2 else "sad") / f"{split}{i}.png", seed=i + 100 * len(split))
    data = read(tmp_path, "face")
    assert counts(data) == {"train": 8, "dev": 2, "test": 4}
    assert all("test" in str(s.path) for s in data.split("test"))
    assert data.labels.labels == ("happiness", "sadness")


def test_texts_in_folders_are_read(tmp_path: Path) -> None:
    for i, text in enumerate(sentences(8)):
        folder = tmp_path / ("pos" if i % 2 else "neg")
        folder.mkdir(exist_ok=True)
        (folder / f"{i}.txt").write_text(f"{text}.\nSecond line.", encoding="utf-8")
    data = read(tmp_path, "text")
    assert data.labels.labels == ("negative", "positive")
    assert data.samples[0].text == "this is the sentence number 0 of the data. Second line."


def test_a_folder_without_labels_is_a_pool_only_if_asked_for(tmp_path: Path) -> None:
    voices(tmp_path, ["a.wav", "b.wav"])
    assert "no folder and no file name tells a label" in refusal(tmp_path, "voice")
    pool = read(tmp_path, "voice", KEEP)
    assert [s.label for s in pool.samples] == [None, None]
    assert len(pool.labels) == 0


def test_an_empty_folder_and_one_without_the_modality(tmp_path: Path) -> None:
    assert "holds no sound or video files" in refusal(tmp_path, "voice")
    write_wav(tmp_path / "angry" / "a.wav")
    assert "holds no picture or video files" in refusal(tmp_path, "face")


def test_a_file_name_of_two_emotions_is_refused(tmp_path: Path) -> None:
    voices(tmp_path, ["happy_1.wav", "sad_1.wav", "happy_2.wav", "sad_2.wav", "sad_angry.wav", "sad_3.wav"])
    message = refusal(tmp_path, "voice")
    assert message.startswith(str(tmp_path / "sad_angry.wav"))
    assert "names 2 labels: sad, angry" in message


# Tables


def test_a_table_of_moments(tmp_path: Path) -> None:
    write_wav(tmp_path / "wavs" / "long.wav", seconds=6.0)
    rows = [["wavs/long.wav", i, i + 1, ["Angry", "neutral"][i % 2], f"00{i}"] for i in range(6)]
    table = write_table(tmp_path / "data.csv", "file Start end emotion subject", rows)
    data = read(table, "voice")
    first = data.samples[0]
    assert (first.where, first.start, first.end, first.speaker) == ("data.csv, row 1", 0.0, 1.0, "000")
    assert data.labels.labels[first.label or 0] == "anger"
    assert counts(data) == {"train": 4, "dev": 2, "test": 0} or counts(data) == {"train": 5, "dev": 1, "test": 0}
    assert not {s.speaker for s in data.split("train")} & {s.speaker for s in data.split("dev")}


def test_moments_of_one_recording_stay_together_where_no_speaker_is_stated(tmp_path: Path) -> None:
    for i in range(4):
        write_wav(tmp_path / f"{i}.wav", seconds=4.0, frequency=200 + 9 * i)
    rows = [[f"{i}.wav", s, s + 1, "sad" if s % 2 else "happy"] for i in range(4) for s in range(4)]
    data = read(write_table(tmp_path / "d.csv", "path start end label", rows), "voice")
    assert counts(data) == {"train": 12, "dev": 4, "test": 0}
    assert not {s.path for s in data.split("train")} & {s.path for s in data.split("dev")}
    stated = [[*row, "dev" if row[1] == 3 else "train"] for row in rows]
    data = read(write_table(tmp_path / "d.csv", "path start end label split", stated), "voice")
    assert {s.start for s in data.split("dev")} == {3.0}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_chinese_tables_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    texts = [
        "今天的天气真好，我们一起去公园玩吧",
        "他们把我的行李弄丢了，我非常生气",
        "这家酒店的服务态度很好",
        "房间太小，而且很吵，不会再来了",
    ]
    rows = [[f"{text}，第{i}次", ["高兴", "愤怒"][i % 2]] for i, text in enumerate(texts * 3)]
    table = write_table(tmp_path / "data.csv", "text label", rows, encoding)
    data = read(table, "text")
    assert data.labels.labels == ("anger", "happiness")
    assert data.samples[0].text == f"{texts[0]}，第0次"


def test_semicolons_tabs_and_parquet(tmp_path: Path) -> None:
    import pandas as pd

    rows = [[text, "happy" if i % 2 else "sad"] for i, text in enumerate(sentences(10))]
    lines = ["Text;Label", *(";".join(row) for row in rows)]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    write_table(tmp_path / "b.tsv", "text label", rows)
    pytest.importorskip("pyarrow", reason="writes the Parquet file")
    pd.DataFrame(rows, columns=["text", "label"]).to_parquet(tmp_path / "c.parquet")
    read_texts = [[s.text for s in read(tmp_path / name, "text").samples] for name in ("a.csv", "b.tsv", "c.parquet")]
    assert read_texts == [[row[0] for row in rows]] * 3


def test_votes_become_shares_and_the_label_with_most(tmp_path: Path) -> None:
    rows = [[write_png(tmp_path / f"{i}.png", i).name, 6 - i % 4, i % 4 * 2, 2] for i in range(8)]
    data = read(write_table(tmp_path / "votes.csv", "image happy sad neutral", rows), "face")
    assert data.labels.labels == ("happiness", "sadness", "neutral")
    for sample, (_, happy, sad, neutral) in zip(data.samples, rows, strict=True):
        votes = np.array([happy, sad, neutral], dtype=float)
        assert sample.distribution is not None
        assert np.allclose(sample.distribution, votes / votes.sum())
        assert sample.label == votes.argmax()


def test_numeric_columns_of_a_joint_table(tmp_path: Path) -> None:
    voices(tmp_path, [f"{i}.wav" for i in range(6)])
    rows = [[f"{i}.wav", "happy" if i % 2 else "sad", i / 10, "" if i == 2 else 1.5, "left"] for i in range(6)]
    table = write_table(tmp_path / "m.csv", "path label AU01_r AU12_r remark", rows)
    data = read(table, "joint")
    assert data.column_names == ("AU01_r", "AU12_r")
    assert np.allclose(np.stack([s.columns for s in data.samples if s.columns is not None])[:, 0], np.arange(6) / 10)
    missing = data.samples[2].columns
    assert missing is not None
    assert np.isnan(missing).tolist() == [False, True]
    assert any(note.endswith("not used: remark") for note in data.notes)
    chosen = read(table, "joint", DataOptions(columns=("au12*",)))
    assert chosen.column_names == ("AU12_r",)
    assert "no column like 'pose*'; columns left for features: AU01_r, AU12_r, remark" in refusal(
        table, "joint", DataOptions(columns=("pose*",))
    )
    assert "column 'remark' must hold numbers; got 'left'" in refusal(table, "joint", DataOptions(columns=("remark",)))


def test_tables_named_by_split(tmp_path: Path) -> None:
    texts = sentences(9)
    for name, part in (("train", texts[:5]), ("dev", texts[5:7]), ("test", texts[7:])):
        write_table(
            tmp_path / f"{name}.csv", "text label", [[t, "pos" if i % 2 else "neg"] for i, t in enumerate(part)]
        )
    data = read(tmp_path, "text")
    assert counts(data) == {"train": 5, "dev": 2, "test": 2}
    assert {s.where for s in data.split("dev")} == {"dev.csv, row 1", "dev.csv, row 2"}


def test_labels_that_are_numbers_keep_their_order(tmp_path: Path) -> None:
    rows = [[text, [10, 2, 1][i % 3]] for i, text in enumerate(sentences(12))]
    assert read(write_table(tmp_path / "d.csv", "text label", rows), "text").labels.labels == ("1", "2", "10")


# What is wrong


def test_a_wrong_column_is_named_with_what_it_may_be(tmp_path: Path) -> None:
    rows = [[text, "happy", "a"] for text in sentences(4)]
    table = write_table(tmp_path / "d.csv", "text lable speaker", rows)
    assert (
        refusal(table, "text")
        == f"{table} has no column named label (is it 'lable'?); its columns: text, lable, speaker"
    )
    table = write_table(tmp_path / "d.csv", "text label spekaer", rows)
    assert refusal(table, "text").endswith("has a column 'spekaer'; did you mean 'speaker'?")
    assert "has no column named path; its columns" in refusal(table, "voice")
    table = write_table(tmp_path / "d.csv", "text label label", rows)
    assert refusal(table, "text").endswith("names the column 'label' twice")


def test_all_bad_rows_of_a_table_are_listed_or_skipped(tmp_path: Path) -> None:
    voices(tmp_path, [f"{i}.wav" for i in range(8)])
    write_wav(tmp_path / "silent.wav", amplitude=0.0)
    write_wav(tmp_path / "short.wav", seconds=0.2)
    (tmp_path / "broken.wav").write_bytes(b"RIFF and no more")
    good = [[f"{i}.wav", "", "", "happy" if i % 2 else "sad"] for i in range(8)]
    bad = [
        ["silent.wav", "", "", "sad"],
        ["short.wav", "", "", "sad"],
        ["broken.wav", "", "", "sad"],
        ["gone.wav", "", "", "sad"],
        ["", "", "", "sad"],
        ["0.wav", "", "", ""],
        ["0.wav", "", "", "hapy"],
        ["0.wav", "0.9", "0.1", "sad"],
        ["0.wav", "0", "7.5", "sad"],
        ["0.wav", "soon", "", "sad"],
        ["0.wav", "-1", "", "sad"],
    ]
    table = write_table(tmp_path / "d.csv", "path start end label", [*good, *bad])
    lines = refusal(table, "voice").splitlines()
    assert lines[0] == 'd: 11 of 19 rows cannot be used; bad_rows = "skip" leaves them out:'
    reasons = [
        "silent.wav is silent",
        "short.wav is too short: 0.20 s, at least 0.5 are needed",
        "broken.wav is damaged",
        "gone.wav does not exist",
        "the path is missing",
        "the label is missing",
        "unknown label 'hapy'; did you mean 'happy'?",
        "it starts at 0.9 s and ends at 0.1 s",
        "0.wav lasts 1.00 s; the row goes to 7.50 s",
        "start must be seconds, such as 12.5; got 'soon'",
        "start must be 0 s or later; got -1",
    ]
    assert len(lines) == 1 + len(reasons)
    for number, (line, reason) in enumerate(zip(lines[1:], reasons, strict=True), len(good) + 1):
        assert line.startswith(f"  d.csv, row {number}: ")
        assert reason in line
    data = read(table, "voice", SKIP)
    assert len(data.samples) == 8
    assert any(note.startswith("11 of 19 rows were left out, such as d.csv, row 9") for note in data.notes)


def test_a_long_list_of_bad_rows_ends_with_a_count(tmp_path: Path) -> None:
    rows = [[text, "sad" if i < 4 else ""] for i, text in enumerate(sentences(34))]
    lines = refusal(write_table(tmp_path / "d.csv", "text label", rows), "text").splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  … and 10 more"


def test_one_bad_row_is_one_sentence(tmp_path: Path) -> None:
    rows = [[text, "sad" if i % 2 else "happy"] for i, text in enumerate(sentences(9))]
    rows[4][0] = "  "
    message = refusal(write_table(tmp_path / "d.csv", "text label", rows), "text")
    assert message == 'd.csv, row 5: the text is empty (1 of 9 rows is bad; bad_rows = "skip" leaves it out)'


def test_an_unquoted_comma_is_a_bad_row(tmp_path: Path) -> None:
    lines = ["text,label", *(f"{t},{'sad' if i % 2 else 'happy'}" for i, t in enumerate(sentences(6))), "well, yes,sad"]
    (tmp_path / "d.csv").write_text("\n".join(lines), encoding="utf-8")
    assert "d.csv, row 7: 3 cells, but the header names 2 (quotes missing?)" in refusal(tmp_path / "d.csv", "text")


def test_votes_that_are_no_numbers(tmp_path: Path) -> None:
    rows = [[text, "many" if i == 1 else 3, -1 if i == 2 else 1] for i, text in enumerate(sentences(6))]
    message = refusal(write_table(tmp_path / "d.csv", "text happy sad", rows), "text")
    assert "row 2: column 'happy' must hold votes or shares from 0; got 'many'" in message
    assert "row 3: column 'sad' must hold votes or shares from 0; got '-1'" in message


def test_a_speaker_in_two_splits_stops_even_where_bad_rows_are_skipped(tmp_path: Path) -> None:
    rows = [
        [t, "sad" if i % 2 else "happy", f"p{i // 2}", "train" if i < 5 else "valid"]
        for i, t in enumerate(sentences(8))
    ]
    table = write_table(tmp_path / "d.csv", "text label speaker split", rows)
    assert refusal(table, "text", SKIP) == "d: the speaker 'p2' is in train and dev; a speaker belongs to one split"


def test_an_unknown_and_a_missing_split(tmp_path: Path) -> None:
    splits = ["train", "train", "train", "train", "dev", "dev", "practice", ""]
    rows = [[t, "sad" if i % 2 else "happy", splits[i]] for i, t in enumerate(sentences(8))]
    message = refusal(write_table(tmp_path / "d.csv", "text label split", rows), "text")
    assert "row 7: unknown split 'practice'; known: train, dev, test" in message
    assert "row 8: the split is missing, though other rows state one" in message


def test_one_label_only_and_a_label_with_one_row(tmp_path: Path) -> None:
    rows = [[text, "sad"] for text in sentences(6)]
    table = write_table(tmp_path / "d.csv", "text label", rows)
    assert refusal(table, "text") == "d: every row is labelled 'sadness'; at least two labels are needed"
    rows[0][1] = "happy"
    table = write_table(tmp_path / "d.csv", "text label", rows)
    assert refusal(table, "text") == "d: the label 'happiness' has too few rows in train (1); at least 2 are needed"


def test_the_same_sound_in_train_and_dev_is_a_leak(tmp_path: Path) -> None:
    voices(tmp_path, [f"{i}.wav" for i in range(8)])
    (tmp_path / "copy.wav").write_bytes((tmp_path / "0.wav").read_bytes())
    rows = [[f"{i}.wav", "sad" if i % 2 else "happy", "train" if i < 6 else "dev"] for i in range(8)]
    table = write_table(tmp_path / "d.csv", "path label split", [*rows, ["copy.wav", "happy", "dev"]])
    assert "d.csv, row 1: the same content is in dev (d.csv, row 9)" in refusal(table, "voice")
    assert len(read(table, "voice", DataOptions(bad_rows="skip")).split("dev")) == 3


def test_copies_of_long_texts_leave_train_and_short_ones_stay(tmp_path: Path) -> None:
    long = "I have never been so happy about a delayed train"
    parts = [(long, "train"), (long, "dev"), ("Oh my God!", "train"), ("Oh my God!", "dev")]
    parts += [(text, "train") for text in sentences(6)]
    rows = [[text, "sad" if i % 2 else "happy", split] for i, (text, split) in enumerate(parts)]
    data = read(write_table(tmp_path / "d.csv", "text label split", rows), "text")
    assert counts(data) == {"train": 7, "dev": 2, "test": 0}
    assert "rows of train that are in dev or test as well were left out: 1 of 8" in data.notes


def test_a_spreadsheet_is_a_table_like_others(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["text", "label", "speaker", "split"])
    for i, text in enumerate(sentences(8)):
        book.active.append([text, "sad" if i % 2 else "happy", i // 2, "train" if i < 6 else "validation"])
    book.save(tmp_path / "d.xlsx")
    data = read(tmp_path / "d.xlsx", "text")
    assert counts(data) == {"train": 6, "dev": 2, "test": 0}
    assert [s.speaker for s in data.samples] == ["0", "0", "1", "1", "2", "2", "3", "3"]


def test_sources_that_are_nothing(tmp_path: Path) -> None:
    assert "did you mean 'ravdess'?" in refusal("ravdes", "voice")
    with pytest.raises(ConfigError, match="unknown modality 'smell'; known: voice, face, text, joint"):
        read(tmp_path, "smell")
    with pytest.raises(ConfigError, match="the folder that holds the corpora is needed"):
        read("ravdess", "voice")
    (tmp_path / "d.ods").write_bytes(b"PK")
    assert "it must end in .csv, .tsv, .parquet, .pq, .xlsx" in refusal(tmp_path / "d.ods", "voice")
    (tmp_path / "empty.csv").write_bytes(b"")
    assert refusal(tmp_path / "empty.csv", "voice").endswith("is empty; a table with a header is needed")
    (tmp_path / "head.csv").write_text("text,label\n")
    assert refusal(tmp_path / "head.csv", "text").endswith("holds no rows")
    (tmp_path / "binary.csv").write_bytes(bytes(100))
    assert "is not a text file" in refusal(tmp_path / "binary.csv", "text")


def test_options_out_of_range() -> None:
    for wrong in ({"bad_rows": "ignore"}, {"unlabelled": "guess"}, {"dev": 0.0}, {"min_seconds": -1}):
        with pytest.raises(ConfigError):
            DataOptions(**wrong)  # type: ignore[arg-type]


def test_a_damaged_corpus_is_told(tmp_path: Path) -> None:
    votes, columns = np.ones((30, 10)), np.array([*FERPLUS.labels, "unknown", "not a face"])
    images = np.random.default_rng(0).integers(0, 256, (30, 48, 48), dtype=np.uint8)
    np.savez_compressed(tmp_path / "train.npz", images=images, votes=votes, columns=columns)
    whole = (tmp_path / "train.npz").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 4 : len(whole) // 4 + 64] = bytes(64)
    (tmp_path / "train.npz").write_bytes(bytes(damaged))
    assert refusal(tmp_path, "face").startswith(f"the train part of ferplus in {tmp_path} is damaged")


# Splits


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 7))), min_size=2, max_size=60),
    share=st.sampled_from([0.1, 0.2, 0.34, 0.5]),
    seed=st.integers(0, 1000),
)
def test_splits_cover_all_rows_and_never_share_a_speaker(
    rows: list[tuple[int, int | None]], share: float, seed: int
) -> None:
    targets = np.array([target for target, _ in rows])
    speakers = [None if speaker is None else str(speaker) for _, speaker in rows]
    dev = set_aside(targets, speakers, share, seed)
    assert dev.shape == (len(rows),)
    heard = {s for s, v in zip(speakers, dev, strict=True) if v and s is not None}
    assert not heard & {s for s, v in zip(speakers, dev, strict=True) if not v}
    alone = len(set(speakers)) == 1 and speakers[0] is not None
    assert dev.any() != alone
    assert not dev.all()
    assert np.array_equal(dev, set_aside(targets, speakers, share, seed))


def test_the_dev_split_has_the_labels_of_the_whole() -> None:
    targets = np.repeat([0, 1, 2], [60, 30, 10])
    speakers = [str(i % 10) for i in range(100)]
    dev = set_aside(targets, speakers, 0.2, 0)
    assert np.bincount(targets[dev]).tolist() == [12, 6, 2]


def test_one_speaker_is_split_by_row_with_a_warning(tmp_path: Path) -> None:
    rows = [[text, "sad" if i % 2 else "happy", "anna"] for i, text in enumerate(sentences(10))]
    data = read(write_table(tmp_path / "d.csv", "text label speaker", rows), "text")
    assert counts(data) == {"train": 8, "dev": 2, "test": 0}
    assert any("all rows are of one speaker" in note for note in data.notes)


def test_unlabelled_rows_go_with_their_speaker(tmp_path: Path) -> None:
    rows = [[text, ["sad", "happy", ""][i % 3], f"p{i // 6}"] for i, text in enumerate(sentences(30))]
    data = read(write_table(tmp_path / "d.csv", "text label speaker", rows), "text", KEEP)
    assert sum(s.label is None for s in data.samples) == 10
    assert any(s.label is None for s in data.split("dev"))
    assert not {s.speaker for s in data.split("train")} & {s.speaker for s in data.split("dev")}


# Arrays


def test_waveforms_of_whole_files_and_moments(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", seconds=2.0)
    whole = waveform(Sample("a", path))
    assert whole.dtype == np.float32
    assert whole.shape == (2 * SAMPLE_RATE,)
    part = waveform(Sample("a", path, start=0.5, end=1.25))
    assert np.array_equal(part, whole[8000:20000])
    assert np.array_equal(waveform(Sample("a", path, start=1.5)), whole[24000:])
    with pytest.raises(DataError, match="row 3 names no file"):
        waveform(Sample("d.csv, row 3"))
    with pytest.raises(MediaError, match="does not exist"):
        waveform(Sample("b", tmp_path / "b.wav"))


def test_a_changed_file_is_decoded_again(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", frequency=200)
    before = waveform(Sample("a", path, start=0.0, end=0.5))
    write_wav(path, frequency=400)
    os.utime(path, (1, 1))
    assert not np.array_equal(before, waveform(Sample("a", path, start=0.0, end=0.5)))


def test_crops_are_only_resized(tmp_path: Path) -> None:
    data = read_pictures(tmp_path, (48, 48))
    sample = data.samples[0]
    assert sample.framed
    assert sample.path is not None
    stored = np.asarray(Image.open(sample.path))
    assert np.array_equal(picture(sample, 48, 1)[0], stored)
    assert np.array_equal(picture(sample, 48, 3), np.stack([stored] * 3))
    halved = stored.reshape(24, 2, 24, 2).mean(axis=(1, 3))
    assert np.abs(picture(sample, 24, 1)[0] - halved).max() <= 0.5  # the mean of four pixels, rounded
    assert picture(sample, 96, 3).shape == (3, 96, 96)


def read_pictures(folder: Path, size: tuple[int, int], options: DataOptions | None = None) -> TrainingData:
    for i in range(8):
        write_png(folder / ("happy" if i % 2 else "sad") / f"{i}.png", i, size)
    return read(folder, "face", options or DataOptions())


def test_pictures_without_a_face_are_noted_and_their_centre_taken(tmp_path: Path) -> None:
    data = read_pictures(tmp_path, (120, 80))
    assert any(
        note.startswith("pictures without a face, of which the centre is taken: 8 (1.png, 3.png, 5.png, …)")
        for note in data.notes
    )
    sample = data.samples[0]
    assert sample.path is not None
    stored = np.asarray(Image.open(sample.path))
    assert np.array_equal(picture(sample, 80, 1)[0], stored[:, 20:100])
    framed = read_pictures(tmp_path, (120, 80), DataOptions(crops=True))
    assert all(s.framed for s in framed.samples)
    assert not any("without a face" in note for note in framed.notes)


def test_pixels_in_memory() -> None:
    pixels = np.arange(48 * 48, dtype=np.uint8).reshape(48, 48)
    sample = Sample("x", pixels=pixels, framed=True)
    assert np.array_equal(picture(sample, 48, 1), pixels[None])
    still = clip(sample, 4, 48)
    assert still.shape == (3, 4, 48, 48)
    assert np.array_equal(still[1, 3], pixels)


# The labelled data


@pytest.mark.data
def test_ravdess_as_it_lies_has_voices_actors_and_action_units(data: Path, tmp_path: Path) -> None:
    for name in ("Actor_02", "Actor_03", "Actor_05", "Actor_06", "face_action_units.csv"):
        (tmp_path / name).symlink_to(data / "ravdess" / name)
    made = read(tmp_path, "joint")
    assert made.labels is RAVDESS
    for split in ("train", "dev"):
        rows = load("ravdess", tmp_path, split)
        assert [s.path for s in made.split(split)] == list(rows.inputs)
        assert [s.label for s in made.split(split)] == rows.targets.tolist()
        assert [s.speaker for s in made.split(split)] == rows.groups.tolist()
    assert len(made.column_names) == 35
    with (data / "ravdess" / "face_action_units.csv").open(encoding="utf-8") as file:
        units = {row["name"]: float(row["AU12_r"]) for row in csv.DictReader(file)}
    column = made.column_names.index("AU12_r")
    for sample in made.samples[::20]:
        assert sample.path is not None
        assert sample.columns is not None
        assert sample.columns[column] == units["01-01" + sample.path.stem[5:]]


@pytest.mark.data
def test_a_corpus_is_not_read_for_another_modality(data: Path) -> None:
    assert refusal(data / "ravdess", "face") == "ravdess is data for the modality voice, not face"


@pytest.mark.data
def test_two_actors_alone_get_a_dev_split_of_their_own(data: Path, tmp_path: Path) -> None:
    for actor in ("Actor_03", "Actor_06"):
        (tmp_path / actor).symlink_to(data / "ravdess" / actor)
    made = read(tmp_path, "voice")
    assert len({s.speaker for s in made.split("train")}) == len({s.speaker for s in made.split("dev")}) == 1
    assert any("none of whom is in train" in note for note in made.notes)


@pytest.mark.data
def test_emodb_by_its_file_names(data: Path) -> None:
    made = read(data / "emodb", "voice")
    assert made.name == "emodb"
    assert [s.path for s in made.split("dev")] == list(load("emodb", data, "dev").inputs)


@pytest.mark.data
def test_ferplus_keeps_votes_and_loses_copies_of_dev(data: Path) -> None:
    made = read("ferplus", "face", DataOptions(folder=data))
    train, dev = made.split("train"), made.split("dev")
    held_out = {s.pixels.tobytes() for s in dev if s.pixels is not None}
    assert len(dev) == len(load("ferplus", data, "dev"))
    assert not any(s.pixels is not None and s.pixels.tobytes() in held_out for s in train)
    assert all(s.distribution is not None and np.isclose(s.distribution.sum(), 1) for s in train[:1000])


@pytest.mark.data
def test_chinese_microblogs(data: Path) -> None:
    made = read(data / "smp2020_ewect", "text")
    assert made.labels.name == "smp2020"
    assert Counter(s.label for s in made.split("dev")) == Counter(load("smp2020_ewect", data, "dev").targets.tolist())


@pytest.mark.data
def test_a_face_is_cut_out_as_the_face_expert_does(data: Path, tmp_path: Path) -> None:
    frame = next(Recording.open(data / "clips" / "single_face.mp4").frames([1.0]))
    Image.fromarray(frame.image).save(tmp_path / "face.png")
    detector = default_detector(1.5)
    found = detector.detect(frame.image)
    expected = crop_face(frame.image, found.boxes[0], found.landmarks[0], detector.framing)
    assert np.array_equal(picture(Sample("x", tmp_path / "face.png"), 48, 1)[0], expected)
    moving = clip(Sample("x", data / "clips" / "single_face.mp4", start=0.5, end=1.5), 8, 64)
    assert moving.shape == (3, 8, 64, 64)
    assert np.ptp(moving.astype(int), axis=1).max() > 0  # the face moves


@pytest.mark.data
def test_moments_of_a_long_recording_are_those_that_the_pipeline_hears(data: Path) -> None:
    path = data / "clips" / "obama_speech.mp4"
    (expected,) = Recording.open(path).sound(Timeline((Segment(1.0, 2.5),)))
    assert np.array_equal(waveform(Sample("x", path, start=1.0, end=2.5)), expected)
