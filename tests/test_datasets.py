"""Readers and their splits, on small made-up folders; the real corpora where AFFUSE_DATA names them."""

import json
import os
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from affuse.data import corpora
from affuse.data.corpora import emodb, ravdess
from affuse.errors import ConfigError, DataError
from affuse.labels import SENTIMENT

DATA = os.environ.get("AFFUSE_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="AFFUSE_DATA does not name the folder of the corpora")


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known: brighter, brighter_chn, chnsenticorp, cped, emodb"):
        corpora.load("fer", tmp_path, "train")
    with pytest.raises(ConfigError, match="known: train, dev, test"):
        corpora.load("emodb", tmp_path, "devel")
    with pytest.raises(DataError, match="does not hold"):
        corpora.load("emodb", tmp_path, "train")
    with pytest.raises(DataError, match="is not a folder"):
        corpora.load("emodb", tmp_path / "missing", "train")


def test_ravdess_splits_by_actor(tmp_path: Path) -> None:
    for actor in range(1, 25):
        folder = tmp_path / "ravdess" / f"Actor_{actor:02d}"
        folder.mkdir(parents=True)
        (folder / f"03-01-05-02-01-01-{actor:02d}.flac").touch()
        (folder / f"03-02-05-02-01-01-{actor:02d}.flac").touch()  # song, which is no speech
    parts = {split: corpora.load("ravdess", tmp_path, split) for split in corpora.SPLITS}
    actors = {split: set(part.groups.tolist()) for split, part in parts.items()}
    assert actors["test"] == ravdess.TEST_ACTORS
    assert actors["dev"] == ravdess.DEV_ACTORS
    assert len(actors["train"]) == 15
    assert not actors["train"] & actors["dev"]
    assert {part.labels.labels[t] for part in parts.values() for t in part.targets} == {"anger"}


def test_emodb_reads_letters_and_splits_by_speaker(tmp_path: Path) -> None:
    for name in ("03a01Wa", "10a01Lb", "14a01Ec", "08a01Ad", "09a01Fa", "11a01Ta", "12a01Na"):
        (tmp_path / f"{name}.wav").touch()
    parts = {split: corpora.load("emodb", tmp_path, split) for split in corpora.SPLITS}
    labels = {split: [part.labels.labels[t] for t in part.targets] for split, part in parts.items()}
    assert labels["test"] == ["anger"]
    assert labels["dev"] == ["boredom", "disgust"]
    assert labels["train"] == ["fear", "happiness", "sadness", "neutral"]
    assert not emodb.DEV_SPEAKERS & emodb.TEST_SPEAKERS


FERPLUS_COLUMNS = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "NF"),
)


def save_ferplus(path: Path, votes: np.ndarray) -> np.ndarray:
    images = np.arange(len(votes) * 48 * 48).astype(np.uint8).reshape(-1, 48, 48)
    np.savez(path, images=images, votes=votes, columns=np.array(FERPLUS_COLUMNS))
    return images


def test_ferplus_takes_most_votes_and_drops_unknown(tmp_path: Path) -> None:
    votes = np.zeros((3, 10), dtype=np.uint8)
    votes[0, [0, 1, 8]] = [3, 6, 1]
    votes[1, [0, 8]] = [4, 6]  # unknown wins: left out
    votes[2, [4, 9]] = [9, 1]
    images = save_ferplus(tmp_path / "test.npz", votes)
    part = corpora.load("ferplus", tmp_path, "test")
    assert [part.labels.labels[t] for t in part.targets] == ["happiness", "anger"]
    assert part.votes is not None
    assert np.allclose(part.votes[0, :2], [3 / 9, 6 / 9])
    assert np.array_equal(part.inputs[1], images[2])


def test_ferplus_majority_is_half_of_what_single_votes_leave(tmp_path: Path) -> None:
    votes = np.zeros((6, 10), dtype=np.uint8)
    votes[0, [0, 1, 2, 3, 4]] = [4, 2, 1, 1, 1]  # 4 of 6 once the single votes are gone
    votes[1, [0, 1]] = [5, 5]  # a tie
    votes[2, [3, 4, 5]] = [4, 3, 3]  # most votes, and no majority
    votes[3, [6, 8]] = [2, 7]  # unknown has it
    votes[4, :9] = 1  # nothing but single votes
    votes[5, [7, 9]] = [6, 4]
    save_ferplus(tmp_path / "test.npz", votes)
    part = corpora.load("ferplus_majority", tmp_path, "test")
    assert [part.labels.labels[t] for t in part.targets] == ["neutral", "contempt"]
    assert part.groups.tolist() == [0, 5]


def test_goemotions_keeps_rows_with_one_label_and_needs_no_list(tmp_path: Path) -> None:
    folder = tmp_path / "goemotions" / "ekman"
    folder.mkdir(parents=True)
    (folder / "test.tsv").write_text('So "sad"\t5\ta\nboth\t3,4\tb\nyay\t3\tc\n', encoding="utf-8")
    part = corpora.load("goemotions", tmp_path, "test")
    assert list(part.inputs) == ['So "sad"', "yay"]
    assert [part.labels.labels[t] for t in part.targets] == ["sadness", "happiness"]


def test_meld_mends_broken_punctuation(tmp_path: Path) -> None:
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
    row = '1,"It\x92s, well",Joey,joy,positive,0,0\n'
    (tmp_path / "test_sent_emo.csv").write_text(header + row, encoding="utf-8")
    part = corpora.load("meld", tmp_path, "test")
    assert part.inputs[0] == "It’s, well"
    assert part.labels.labels[part.targets[0]] == "happiness"
    assert corpora.load("meld_sentiment", tmp_path, "test").targets.tolist() == [2]


def test_smp2020_reads_the_test_file(tmp_path: Path) -> None:
    rows = [{"id": 1, "content": "天使", "label": "happy"}, {"id": 2, "content": "怕", "label": "fear"}]
    (tmp_path / "virus_test_labeled.txt").write_text(json.dumps(rows), encoding="utf-8")
    part = corpora.load("smp2020_ewect", tmp_path, "test")
    assert [part.labels.labels[t] for t in part.targets] == ["happiness", "fear"]


@needs_data
@pytest.mark.parametrize(
    ("name", "train", "dev"),
    [
        ("ravdess", 900, 300),
        ("emodb", 308, 107),
        ("ferplus", 28385, 3555),
        ("meld", 9989, 1109),
        ("mosi", 1447, 360),
        ("ferplus_majority", 25045, 3191),
    ],
)
def test_real_splits_share_no_group(name: str, train: int, dev: int) -> None:
    parts = [corpora.load(name, str(DATA), split) for split in ("train", "dev")]
    assert [len(part) for part in parts] == [train, dev]
    if not name.startswith(
        ("ferplus", "meld")
    ):  # ferplus knows no persons; dialogue numbers of meld start anew in every part
        assert not set(parts[0].groups.tolist()) & set(parts[1].groups.tolist())


def entry_point(monkeypatch: pytest.MonkeyPatch, name: str, component: object) -> None:
    """Register ``component`` as another package would."""
    point = EntryPoint(name, "somebody.else:component", "affuse.corpora")
    monkeypatch.setattr(EntryPoint, "load", lambda self: component)
    monkeypatch.setattr("affuse.registry.entry_points", lambda group: [point] if group == "affuse.corpora" else [])


def test_another_package_adds_a_corpus_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: Path, split: str) -> corpora.Dataset:
        folder = corpora.find_folder(data, "shop", "*.txt")
        lines = (folder / f"{split}.txt").read_text().splitlines()
        return corpora.Dataset("shop", "text", SENTIMENT, lines, np.full(len(lines), 2), np.arange(len(lines)))

    shop = corpora.Corpus("shop", read, "text", "CC0", lies_in=lambda folder: (folder / "shop.md").exists())
    entry_point(monkeypatch, "shop", shop)
    (tmp_path / "dev.txt").write_text("lovely\nfine\n")
    assert "shop" in corpora.names()
    assert "shop" in corpora.names("text")
    assert list(corpora.load("shop", tmp_path, "valid").inputs) == ["lovely", "fine"]
    assert corpora.recognise(tmp_path) is None
    (tmp_path / "shop.md").touch()
    assert corpora.recognise(tmp_path) == "shop"


def test_an_entry_point_that_is_no_corpus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_point(monkeypatch, "shop", len)
    with pytest.raises(ConfigError, match=r"'shop' of the group affuse\.corpora must be a Corpus; it is a builtin"):
        corpora.find("shop")


@pytest.mark.parametrize("name", corpora.names())
def test_every_built_in_corpus_carries_its_own_name(name: str, tmp_path: Path) -> None:
    corpus = corpora.find(name)
    assert corpus.name == name
    assert corpus.modality in ("text", "voice", "face", "video")
    assert not corpus.lies_in(tmp_path)


def test_licences_of_corpora_reach_the_models_that_learn_from_them() -> None:
    assert corpora.find("ravdess").licence == "CC BY-NC-SA 4.0 (non-commercial)"
    assert corpora.find("meld").licence == corpora.find("meld_sentiment").licence == "GPL-3.0"
    assert corpora.find("cped").licence == ""
