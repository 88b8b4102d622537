"""Bundles: written whole, read only as they were written, and asked like the shipped experts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse import weights
from affuse.errors import AssetError, ConfigError, DataError, OutputError
from affuse.experts.face import FaceExpert
from affuse.experts.text.language import stored_tokenizer
from affuse.experts.voice import VoiceExpert
from affuse.labels import EKMAN, FERPLUS, VOICE, LabelSpace
from affuse.media import Recording
from affuse.packages import PackageDescription, load_expert, load_package, read_package, write_package
from affuse.packages.tokens import Tokens
from affuse.testing import check_expert
from affuse.timeline import Segment, Timeline
from small_networks import (
    Scene,
    Square,
    answers,
    brightness,
    column,
    description,
    loudness,
    mean_id,
    moving,
    network,
    sound,
    tokenizer,
)


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    return write_package(tmp_path / "voice", description(), {"model.onnx": loudness(), "card.md": b"# mine\n"})


# --- the folder ------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(voice: Path) -> None:
    bundle = read_package(voice)
    told = json.loads((voice / "bundle.json").read_text(encoding="utf-8"))
    assert told["format"] == 1
    assert told["labels"] == {"name": "two", "labels": ["anger", "happiness"]}
    assert told["files"] == {name: weights.sha256_of(voice / name) for name in ("card.md", "model.onnx")}
    assert bundle.description == replace(description(), **{n: told[n] for n in ("files", "affuse", "created")})
    assert PackageDescription.from_json(bundle.description.to_json()) == bundle.description
    assert sorted(p.name for p in voice.parent.iterdir()) == ["voice"]  # nothing is left beside it


def test_a_bundle_is_replaced_as_a_whole_and_other_folders_are_left_alone(voice: Path, tmp_path: Path) -> None:
    write_package(voice, description(name="second"), {"model.onnx": voice / "model.onnx"})
    assert load_package(voice).name == "second"
    assert not (voice / "card.md").exists()
    with pytest.raises(AssetError):
        write_package(voice, description(name="third"), {"model.onnx": b"garbage"})
    assert load_package(voice).name == "second"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match="thesis is there and is no package"):
        write_package(tmp_path / "thesis", description(), {"model.onnx": loudness()})
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter1.txt"]


def test_a_bundle_stays_where_its_successor_cannot_take_its_place(voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="voice cannot be written: No space left on device"):
        write_package(voice, description(name="second"), {"model.onnx": loudness()})
    assert load_package(voice).name == "mine"
    assert [p.name for p in voice.parent.iterdir()] == ["voice"]


@pytest.mark.parametrize(
    ("changes", "files", "error", "sentence"),
    [
        ({}, {"card.md": b""}, ConfigError, "needs model.onnx"),
        ({}, {"model.onnx": b"not a network"}, AssetError, "cannot be loaded as ONNX weights"),
        ({}, {"model.onnx": loudness(), "../stolen": b""}, ConfigError, "'../stolen' cannot be a file of a package"),
        (
            {"labels": EKMAN, "prior": (1 / 7,) * 7},
            {"model.onnx": loudness()},
            AssetError,
            "names 7 labels",
        ),
        (
            {"modality": "face", "reads": ("images",), "inputs": {"images": {"size": 8, "channels": 1}}},
            {"model.onnx": loudness()},
            AssetError,
            "reads waveform, but its description says images",
        ),
        (
            {"modality": "text", "reads": ("tokens",), "inputs": {"tokens": {"longest": 8}}},
            {"model.onnx": loudness()},
            ConfigError,
            "needs tokenizer.json",
        ),
    ],
    ids=["no network", "garbage", "path", "labels", "inputs", "tokenizer"],
)
def test_what_does_not_fit_is_not_written(
    tmp_path: Path, changes: dict[str, Any], files: dict[str, bytes], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        write_package(tmp_path / "new", description(**changes), files)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prior": (0.5, 0.6)}, "must be 2 frequencies that add up to 1; got 0.5, 0.6"),
        ({"prior": (float("nan"), 1.0)}, "must be 2 frequencies"),
        ({"prior": (1.0,)}, "must be 2 frequencies"),
        ({"labels": LabelSpace("one", ("anger",)), "prior": (1.0,)}, "at least 2 labels"),
        ({"reads": ("smells",)}, "reads some of waveform, .*; got 'smells'"),
        ({"reads": ("images",)}, "an expert for voice reads waveform; got images"),
        ({"reads": ("waveform", "columns")}, "an expert for voice reads waveform; got waveform, columns"),
        ({"kind": "oracle"}, "unknown kind 'oracle'; known: expert, joint"),
        ({"modality": "face", "reads": ("images",), "inputs": {"images": {"size": 48}}}, "needs 'channels' .int.; got"),
        (
            {"modality": "face", "reads": ("images",), "inputs": {"images": {"size": 48, "channels": 4}}},
            "1 channel .grey. or 3 .RGB.; got 4",
        ),
        ({"name": ""}, "needs a name"),
        ({"files": {"model.onnx": "abc"}}, "must be 64 hexadecimal digits; got 'abc'"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        description(**changes)


def _edit(path: Path, **changes: Any) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({n: v for n, v in (told | changes).items() if v is not ...}), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda b: (b / "model.onnx").write_bytes(b"x"),
            "model.onnx has the wrong checksum: expected SHA-256",
        ),
        (lambda b: (b / "card.md").unlink(), "card.md is missing; copy the package again"),
        (lambda b: (b / "bundle.json").unlink(), "is no package: it holds no bundle.json"),
        (lambda b: (b / "bundle.json").write_text("{"), "bundle.json cannot be used: it is not JSON"),
        (lambda b: (b / "bundle.json").write_text("[]"), "it has no format"),
        (lambda b: _edit(b / "bundle.json", format=2), "it is of format 2; this affuse reads format 1"),
        (lambda b: _edit(b / "bundle.json", prior=...), "its entry 'prior' is missing"),
        (lambda b: _edit(b / "bundle.json", prior="even"), "it does not hold together"),
        (lambda b: _edit(b / "bundle.json", files={}), "needs model.onnx"),
        (lambda b: _edit(b / "bundle.json", files={"../../x": "0" * 64}), "cannot be a file of a package"),
        (lambda b: _edit(b / "bundle.json", files={"C:x": "0" * 64}), "cannot be a file of a package"),
    ],
)
def test_a_spoilt_bundle_is_refused(voice: Path, spoil: Callable[[Path], object], sentence: str) -> None:
    spoil(voice)
    with pytest.raises(AssetError, match=sentence):
        load_package(voice)


def test_a_network_over_what_recordings_do_not_hold_is_refused(tmp_path: Path) -> None:
    reader = description(modality="face", reads=("landmarks",), inputs={"landmarks": {"points": 68}})
    nodes = [("ReduceMean", ["landmarks", "planes"], "mean"), *column("mean")]
    files = {"model.onnx": network({"landmarks": ["n", 1, 68, 2]}, nodes, 2)}
    with pytest.raises(ConfigError, match="reads landmarks, which affuse does not find in recordings by itself"):
        load_package(write_package(tmp_path / "b", reader, files))


# --- experts ---------------------------------------------------------------------------------------------------------


def test_a_voice_bundle_is_asked_window_by_window(voice: Path, tmp_path: Path) -> None:
    recording = Recording.open(sound(tmp_path / "a.wav", 0.5, 0.0, 0.1))
    timeline = Timeline.windows(3.0, 1.0, 1.0)
    expert = load_expert(str(voice))
    (reading,) = expert.read(recording, timeline)
    for row, samples in ((0, 0), (2, 2)):
        heard = list(recording.sound(timeline))[samples]
        np.testing.assert_allclose(reading.probabilities[row], answers(float(np.abs(heard).mean())), atol=1e-6)
    assert reading.reasons == ("", "silence", "")
    assert expert.sha256["model.onnx"] == weights.sha256_of(voice / "model.onnx")
    check_expert(expert, recording, timeline)


def test_the_shipped_networks_say_the_same_as_bundles(tmp_path: Path) -> None:
    """All experts read a recording the same way, so only where the weights lie may differ."""
    spoken = Recording.open(sound(tmp_path / "a.wav", 0.5, 0.3, 0.2))
    timeline = Timeline.windows(3.0, 2.0, 1.0)
    files = {"model.onnx": weights.shipped("voice")}
    bundle = write_package(tmp_path / "v", description(labels=VOICE, prior=(1 / 9,) * 9), files)
    for verb in ("predict", "embed"):
        own, theirs = getattr(load_package(bundle), verb), getattr(VoiceExpert(), verb)
        np.testing.assert_array_equal(own(spoken, timeline), theirs(spoken, timeline))

    reads = {"modality": "face", "reads": ("images",), "inputs": {"images": {"size": 48, "channels": 1}}}
    face = description(labels=FERPLUS, prior=(1 / 8,) * 8, **reads)
    bundle = write_package(tmp_path / "f", face, {"model.onnx": weights.shipped("face")})
    pictures = np.random.default_rng(0).integers(0, 256, (5, 48, 48), dtype=np.uint8)
    np.testing.assert_array_equal(load_package(bundle).classify(pictures), FaceExpert().classify(pictures))

    from affuse.experts.text.english import EnglishText

    english = EnglishText(weights.shipped("text_en"))
    vocabulary = stored_tokenizer(weights.session(weights.shipped("text_en")).get_modelmeta().custom_metadata_map)
    text = description(
        modality="text", reads=("tokens",), labels=EKMAN, prior=(1 / 7,) * 7, inputs={"tokens": {"longest": 64}}
    )
    files = {"model.onnx": weights.shipped("text_en"), "tokenizer.json": vocabulary.encode()}
    expert = load_package(write_package(tmp_path / "t", text, files))
    texts = ["I am so happy today!", "no", "What a long day it was for all of us. " * 20]
    np.testing.assert_allclose(expert.classify(texts), english.probabilities(texts), atol=1e-12)


@pytest.mark.parametrize(("channels", "mean"), [(1, 0.299 * 200 + 0.587 * 100), (3, 100.0)])
def test_a_face_bundle_gets_crops_of_its_size_and_colour(tmp_path: Path, channels: int, mean: float) -> None:
    reads = {"modality": "face", "reads": ("images",), "inputs": {"images": {"size": 40, "channels": channels}}}
    bundle = write_package(tmp_path / "f", description(**reads), {"model.onnx": brightness(40, channels)})
    scene = Scene(lambda t: (200, 100, 0), 4.0)
    expert = load_package(bundle, detector=Square())
    timeline = Timeline.windows(4.0, 2.0, 2.0)
    # The crop repeats what lies at its edge, which half a pixel of interpolation darkens by a little.
    np.testing.assert_allclose(expert.predict(scene, timeline), [answers(mean / 255)] * 2, atol=4e-3)
    whole = np.full((1, 96, 96), 255, dtype=np.uint8)
    np.testing.assert_allclose(expert.classify(whole), [answers(1.0)], atol=1e-6)
    with pytest.raises(DataError, match=r"must be uint8 of shape \(n, h, w\) or \(n, h, w, 3\); got float64"):
        expert.classify(whole / 255)


def test_a_network_over_clips_sees_the_frames_of_its_window(tmp_path: Path) -> None:
    reads = {"modality": "face", "reads": ("clips",), "inputs": {"clips": {"size": 24, "frames": 8}}}
    bundle = write_package(tmp_path / "c", description(**reads), {"model.onnx": moving(8, 24)})
    expert = load_package(bundle, detector=Square())
    scene = Scene(lambda t: (60, 60, 60) if t % 2 < 1 else (180, 180, 180), 8.0, gone=4.2)
    (reading,) = expert.read(scene, Timeline.windows(8.0, 2.0, 2.0))
    # Half of the frames of either window are dark and half are bright; 4.2 s is too short a sight of the third.
    np.testing.assert_allclose(reading.probabilities[:2], [answers(120 / 255)] * 2, atol=4e-3)
    assert np.isnan(reading.probabilities[2:]).all()
    assert reading.reasons == ("", "", "no face", "no face")
    assert reading.person == "person 1"
    assert reading.times.max() < 4.2
    check_expert(expert, Scene(lambda t: (90, 90, 90), 4.0), Timeline.windows(4.0, 2.0, 1.0))


def test_pictures_that_do_not_move_are_no_clips(tmp_path: Path) -> None:
    from PIL import Image

    reads = {"modality": "face", "reads": ("clips",), "inputs": {"clips": {"size": 24, "frames": 8}}}
    expert = load_package(write_package(tmp_path / "c", description(**reads), {"model.onnx": moving(8, 24)}))
    Image.new("RGB", (80, 80), "white").save(tmp_path / "still.png")
    recording = Recording.open(tmp_path / "still.png")
    (reading,) = expert.read(recording, Timeline((recording.span,)))
    assert reading.reasons == ("no moving picture",)


def words_bundle(place: Path, longest: int = 5, **changes: Any) -> Path:
    reads = {"modality": "text", "reads": ("tokens",), "inputs": {"tokens": {"longest": longest}}}
    files = {
        "model.onnx": network({"ids": ["n", "t"], "mask": ["n", "t"]}, mean_id(), 2),
        "tokenizer.json": tokenizer("好", "坏", "天"),
    }
    return write_package(place, description(**reads, **changes), files)


def test_a_text_bundle_reads_any_language_and_long_texts_in_parts(tmp_path: Path) -> None:
    expert = load_package(words_bundle(tmp_path / "t"))
    # "[B] 好 坏 天 [E]": the mean of 0, 2, 3, 4, 1 is 2; five ids are all that fit.
    np.testing.assert_allclose(expert.classify(["好 坏 天"]), [answers(2.0)], atol=1e-6)
    # Four words make two parts of two: 0, 2, 2, 1 (mean 1.25) and 0, 4, 4, 1 (mean 2.25), which count alike.
    np.testing.assert_allclose(expert.classify(["好 好 天 天"]), [(answers(1.25) + answers(2.25)) / 2], atol=1e-6)
    assert np.isnan(expert.classify([" "])).all()
    assert (expert.language_of("好"), expert.language_of(" ")) == ("und", None)
    check_expert(expert, Recording.from_text("好 坏。 天 天"), Timeline((Segment(0.0, 1.0),)))


def test_parts_hold_no_more_than_the_network_reads() -> None:
    from tokenizers import Tokenizer

    tokens = Tokens(Tokenizer.from_str(tokenizer("a").decode()), 6)
    parts = tokens.parts("a " * 11)
    assert [p.length for p in parts] == [4, 4, 3]
    assert all(p.ids[0, 0] == 0 and p.ids[0, -1] == 1 and p.ids.shape[1] <= 6 for p in parts)
    with pytest.raises(ConfigError, match="2 ids at once leave no room for words beside 2 special ones"):
        Tokens(Tokenizer.from_str(tokenizer("a").decode()), 2)
