"""``affuse train``: from people's own data to a bundle, whatever happens on the way."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import Run, caller

torch = pytest.importorskip("torch", reason="training needs the extra train (torch)")
pytest.importorskip("lightning", reason="training needs the extra train (lightning)")
tomli_w = pytest.importorskip("tomli_w", reason="training needs the extra train (tomli-w)")

from affuse.data.own import DataOptions, read  # noqa: E402
from affuse.errors import AssetError, ConfigError, DataError  # noqa: E402
from affuse.packages import load_package, read_package  # noqa: E402
from affuse.training import config as configs  # noqa: E402
from affuse.training import record, run  # noqa: E402
from affuse.training.batching import class_weights  # noqa: E402
from affuse.training.config import TrainConfig, TrainingConfig, build, read_config, resolve  # noqa: E402
from affuse.training.inputs import Augmentation, Draw, SpectrumAugmentation, Store, Waveforms  # noqa: E402
from affuse.training.module import Batches, Classification, Split  # noqa: E402
from affuse.training.progress import duration  # noqa: E402
from affuse.training.schedules import learning_rate_factor  # noqa: E402
from affuse.training.task import prepare  # noqa: E402

SCRIPT = "from affuse.cli import main\n\nif __name__ == '__main__':\n    main()\n"


def write_tone(path: Path, frequency: float, seconds: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * 16000)) / 16000
    sound = 0.4 * np.sin(2 * np.pi * frequency * t + rng.uniform(0, 6)) + 0.05 * rng.standard_normal(len(t))
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((sound * 32767).astype("<i2").tobytes())


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """High tones are angry, low ones sad: six speakers, eight clips each."""
    folder = tmp_path_factory.mktemp("tones")
    for speaker in range(6):
        for take in range(4):
            for label, frequency in (("angry", 1800.0), ("sad", 300.0)):
                seed = 100 * speaker + 10 * take + (label == "sad")
                name = folder / label / f"spk{speaker}_{take}.wav"
                write_tone(name, frequency * (1 + 0.03 * speaker), 0.6 + 0.05 * take, seed)
    return folder


SMALL = {"widths": [4, 8], "hidden": 8, "n_mels": 16}


def table(source: Path, epochs: int = 3, **more: Any) -> dict[str, Any]:
    return {
        "data": {"source": str(source), "modality": "voice", "seconds": 0.5, "held_out": 0.25},
        "network": {"options": dict(SMALL)},
        "training": {"epochs": epochs, "batch_size": 8, "learning_rate": 0.01, "ema_decay": 0.5},
        "augmentation": {"sound": {"gain": [-3.0, 3.0]}},
        **more,
    }


def config_of(source: Path, **more: Any) -> TrainConfig:
    return build(TrainConfig, table(source, **more))


@pytest.fixture(scope="session")
def trained(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> run.Run:
    finished = run.train(config_of(tones), tmp_path_factory.mktemp("runs") / "tones")
    assert finished is not None
    return finished


@pytest.fixture
def affuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


# --- what a run leaves ---


def test_a_run_leaves_what_was_asked_for_and_what_came_out(trained: run.Run) -> None:
    left = {path.name for path in trained.folder.iterdir()}
    assert left >= {"config.toml", "run.json", "curves.csv", "confusion.csv", "held_out.npz", "card.md"}
    assert left >= {"checkpoints", "package"}
    assert not {"decoded", "model.onnx"} & left
    facts = json.loads((trained.folder / "run.json").read_text())
    assert facts["state"] == "done"
    assert facts["labels"] == ["anger", "sadness"]
    parts = facts["data"]["splits"]
    assert sum(part["rows"] for part in parts.values()) == 48
    assert sum(part["groups"] for part in parts.values()) == 6, "no speaker is in two parts"
    assert all(part["rows"] == 8 * part["groups"] for part in parts.values())
    assert facts["export_difference"] <= 1e-4
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0] or facts["versions"]["torch"]
    report = facts["measured"]["dev"]
    assert report["accuracy"] == 1.0, "high and low are told apart"
    assert report["accuracy_95"] == [1.0, 1.0] or parts["dev"]["groups"] == 1


def test_the_curves_hold_every_epoch(trained: run.Run) -> None:
    with (trained.folder / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert int(best["epoch"]) == trained.facts["best_epoch"]
    assert float(best["val_loss"]) == pytest.approx(trained.facts["chosen_by"]["val_loss"], rel=1e-6)


def test_the_bundle_is_an_expert_that_agrees_with_the_held_out_answers(trained: run.Run, tones: Path) -> None:
    from affuse.data.own import waveform

    expert: Any = load_package(trained.package)
    samples = read(tones, "voice").split("dev")
    answers = np.stack([expert.classify(waveform(sample)) for sample in samples])
    assert (answers.argmax(axis=1) == [sample.label for sample in samples]).all()
    held_out = np.load(trained.folder / "held_out.npz")
    assert held_out["probabilities"].shape == (trained.facts["data"]["splits"]["held_out"]["rows"], 2)
    np.testing.assert_allclose(held_out["probabilities"].sum(axis=1), 1, atol=1e-5)
    description = read_package(trained.package).description
    assert description.measured["dev"]["accuracy"] == 1.0
    assert description.prior == pytest.approx((0.5, 0.5))


def test_a_run_leaves_predictions_that_fuse_reads(trained: run.Run, tmp_path: Path, affuse: Run) -> None:
    from affuse.data.predictions import read_predictions
    from affuse.fusion import NamedFuser

    place = trained.folder / "predictions" / "dev" / "voice.csv"
    table = read_predictions(place, group_column="group")
    assert (table.modality, table.labels) == ("voice", ("anger", "sadness"))
    parts = trained.facts["data"]["splits"]
    assert len(table.ids) == parts["dev"]["rows"]
    assert len(set(table.groups or ())) == parts["dev"]["groups"]
    assert all(i.partition("/")[0] in ("angry", "sad") for i in table.ids), "names below the folder that all share"
    assert table.targets is not None
    assert [table.labels[k] for k in table.P.argmax(axis=1)] == list(table.targets)
    held_out = read_predictions(trained.folder / "predictions" / "held_out" / "voice.csv", group_column="group")
    np.testing.assert_allclose(held_out.P, np.load(trained.folder / "held_out.npz")["probabilities"], atol=1e-7)
    other = tmp_path / "face.csv"
    shutil.copyfile(place, other)
    done = affuse("fuse", place, other, "--labels", place, "--group", "group", "--save", tmp_path / "f", "--json")
    assert done.code == 0, done.err
    assert NamedFuser.read(tmp_path / "f").modalities == ("voice", "face")


def test_ids_are_those_of_the_recording_whatever_the_modality() -> None:
    from affuse.data.own import Sample
    from affuse.training.record import ids_of

    sounds = [Sample("x", Path(f"/d/wav/{name}.wav"), start, end) for name, start, end in _MOMENTS]
    films = [Sample("x", Path(f"/elsewhere/{name}.mp4"), start, end) for name, start, end in _MOMENTS]
    assert ids_of(sounds) == ids_of(films) == ["a/1", "b/1 0.5-2", "b/1 2-3", "b/1 2-3 (2)"]
    assert ids_of([Sample("texts.csv, row 3", text="hello")]) == ["texts.csv, row 3"]


_MOMENTS = [("a/1", None, None), ("b/1", 0.5, 2.0), ("b/1", 2.0, 3.0), ("b/1", 2.0, 3.0)]


def test_the_card_says_what_was_measured(trained: run.Run) -> None:
    card = (trained.folder / "card.md").read_text()
    assert (trained.package / "card.md").read_text() == card
    assert "Judges anger, sadness from voice" in card
    assert "Accuracy 100.0 %" in card
    assert "The licence of the data is not stated; check it" in card


def test_the_frozen_configuration_says_everything_and_repeats_the_run(trained: run.Run, tmp_path: Path) -> None:
    frozen = read_config(trained.folder / "config.toml")
    assert frozen == resolve(frozen)
    assert frozen.network.name == "crnn"
    again = run.train(frozen, tmp_path / "again")
    assert again is not None
    assert (again.package / "model.onnx").read_bytes() == (trained.package / "model.onnx").read_bytes()
    assert (again.folder / "curves.csv").read_text() == (trained.folder / "curves.csv").read_text()


def test_a_finished_run_is_not_trained_again(trained: run.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_go", lambda *_: pytest.fail("trained again"))
    again = run.resume(trained.folder)
    assert again is not None
    assert again.facts == trained.facts


def test_a_run_of_an_older_version_is_read(trained: run.Run, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(trained.folder, old)
    (old / "package").rename(old / "bundle")
    text = (old / "config.toml").read_text()
    (old / "config.toml").write_text(text.replace("held_out = ", "choose = ").replace("dev = ", "valid = "))
    assert read_config(old / "config.toml") == read_config(trained.folder / "config.toml")
    again = run.resume(old)
    assert again is not None
    assert load_package(again.package).labels.labels == ("anger", "sadness")


# --- interrupted ---


def in_subprocess(folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    script = folder / "affuse_main.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_and_resumed_a_run_ends_as_an_undisturbed_one(
    tones: Path, tmp_path: Path, affuse: Run
) -> None:
    # Enough steps an epoch that the kill falls into one, and a network small enough that they are quick.
    slow = table(tones, 4)
    slow["augmentation"]["sound"] |= {"speed": [0.9, 1.1], "noise_snr": [5.0, 20.0], "probability": 0.8}
    slow["training"] |= {"batch_size": 2}
    slow["network"]["options"] |= {"hidden": 16}
    path = tmp_path / "slow.toml"
    path.write_text(tomli_w.dumps(slow))
    process = in_subprocess(tmp_path, path, "--out", tmp_path / "killed")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 3/4"):  # by then two checkpoints are there; the third may still be on its way
            break
    else:
        pytest.fail("the run ended before its third epoch")
    time.sleep(random.uniform(0.0, 0.1))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["state"] == "started"
    assert not (tmp_path / "killed" / "package").exists()
    # What a kill in the middle of writing would leave, and a last checkpoint that a full disk cut short.
    (tmp_path / "killed" / "checkpoints" / "checkpoint.part").write_bytes(b"half a checkpoint")
    newest = max((tmp_path / "killed" / "checkpoints").glob("*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert affuse("train", "--resume", "--out", tmp_path / "killed").code == 0
    assert affuse("train", path, "--out", tmp_path / "whole").code == 0
    killed, whole = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("killed", "whole"))
    for key in ("measured", "best_epoch", "epochs", "chosen_by", "temperature", "export_difference"):
        assert killed[key] == whole[key], key
    for name in ("curves.csv", "package/model.onnx", "confusion.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_without_a_whole_checkpoint_the_sentence_says_so(trained: run.Run, tmp_path: Path, affuse: Run) -> None:
    folder = tmp_path / "broken"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.toml").write_bytes((trained.folder / "config.toml").read_bytes())
    started = {"state": "started", "data": {"fingerprint": trained.facts["data"]["fingerprint"]}}
    (folder / "run.json").write_text(json.dumps(started))
    (folder / "checkpoints" / "epoch-00001.0123456789abcdef.ckpt").write_bytes(b"PK garbage")
    result = affuse("train", "--resume", "--out", folder)
    assert result.code == 2
    assert "are damaged (epoch-00001.0123456789abcdef.ckpt); remove them to start again" in result.err
    started["data"]["fingerprint"] = "other"
    (folder / "run.json").write_text(json.dumps(started))
    result = affuse("train", "--resume", "--out", folder)
    assert result.code == 2
    assert "the data of" in result.err
    assert "have changed since it began" in result.err


def test_ctrl_c_says_how_to_go_on(
    tones: Path, tmp_path: Path, affuse: Run, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from affuse.training.progress import TrainingProgress

    def stop(self: Any, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    path = tmp_path / "tones.toml"
    path.write_text(tomli_w.dumps(table(tones)))
    # What a shell starts in the background begins with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "on_train_epoch_end", stop)
        result = affuse("train", path, "--out", tmp_path / "run")
    assert result.code == 130
    assert result.err.splitlines()[-1] == f"stopped; go on by: affuse train --resume --out {tmp_path / 'run'}"
    assert affuse("train", "--resume", "--out", tmp_path / "run").code == 0


@pytest.mark.slow
def test_two_processes_share_the_work(tones: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(tomli_w.dumps(table(tones, device={"accelerator": "cpu", "devices": 2, "strategy": "ddp"})))
    process = in_subprocess(tmp_path, path, "--out", tmp_path / "run")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.count("package: ") == 1, "only the first process finishes the run"
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["measured"]["dev"]["accuracy"] == 1.0
    assert load_package(tmp_path / "run" / "package").labels.labels == ("anger", "sadness")


# --- other modalities ---


def write_stripes(folder: Path, n: int = 24) -> Path:
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(n):
        for label, axis in (("happy", 0), ("sad", 1)):
            wave_ = 60 * np.sin(np.arange(48) * 0.8 + rng.uniform(0, 6))
            image = 120 + np.expand_dims(wave_, 1 - axis) + rng.normal(0, 10, (48, 48))
            (folder / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / label / f"p{i:02d}.png")
    return folder


def test_a_folder_of_pictures(tmp_path: Path, affuse: Run) -> None:
    pictures = write_stripes(tmp_path / "faces")
    small = ["--set", "network.options.widths=[4, 8]", "--set", "network.options.blocks=[1, 1]"]
    result = affuse(
        *("train", "--manifest", pictures, "--modality", "face", "--epochs", "6", "--out", tmp_path / "run", *small),
        *("--set", "training.batch_size=8", "--set", "augmentation.picture.brightness=0.2"),
    )
    assert result.code == 0, result.err
    assert "dev: accuracy 100.0 %" in result.out
    assert f"use it: affuse analyze --experts face={tmp_path / 'run' / 'package'} CLIP" in result.out
    assert "note: no dev split was stated: 10 of 48 rows were set aside by seed 0" in result.err


def test_a_table_of_chinese_texts(tmp_path: Path, affuse: Run) -> None:
    rng = np.random.default_rng(1)
    words = {"happy": ["开心", "高兴", "快乐"], "sad": ["难过", "伤心", "痛苦"]}
    fillers = ["今天", "我们", "天气", "朋友", "昨天晚上", "真的"]
    with (tmp_path / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(160):
            label = ("happy", "sad")[i % 2]
            inner = [*rng.choice(fillers, 3), str(rng.choice(words[label])), f"{i}"]
            rng.shuffle(inner)
            writer.writerow(["".join(inner), label])
    result = affuse(
        *("train", "--manifest", tmp_path / "texts.csv", "--modality", "text", "--network", "bag"),
        *("--epochs", "8", "--out", tmp_path / "run", "--set", "training.batch_size=16"),
        *("--set", "network.options.buckets=256", "--set", "training.learning_rate=0.02"),
    )
    assert result.code == 0, result.err
    expert: Any = load_package(tmp_path / "run" / "package")
    answers = expert.classify(["今天我们真的开心", "昨天晚上朋友难过"])
    assert [expert.labels.labels[i] for i in answers.argmax(axis=1)] == ["happiness", "sadness"]


def joint_table(tones: Path, path: Path) -> Path:
    """Sound for half of the rows, a number that tells the label for the other half, both for some."""
    files = sorted(tones.rglob("*.wav"))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "speaker", "au_1", "au_2"])
        for i, sound in enumerate(files):
            label = sound.parent.name
            tells = (1.0 if label == "angry" else -1.0) + 0.01 * i
            speaker = sound.name.split("_")[0]
            writer.writerow([sound if i % 3 else "", label, speaker, *(["", ""] if i % 3 == 1 else [tells, 0.0])])
    return path


def test_a_joint_model_copes_with_what_is_missing(tones: Path, tmp_path: Path) -> None:
    settings = table(joint_table(tones, tmp_path / "joint.csv"), 8)
    settings["data"] |= {"modality": "joint", "reading": {"columns": ["au_*"]}}
    settings["network"] = {"options": {"encoders": {"waveform": {"name": "crnn", **SMALL}}, "hidden": 8}}
    finished = run.train(build(TrainConfig, settings), tmp_path / "run")
    assert finished is not None
    assert finished.facts["measured"]["dev"]["accuracy"] == 1.0
    description = read_package(finished.package).description
    assert (description.kind, description.reads) == ("joint", ("waveform", "columns"))
    assert description.inputs["columns"]["names"] == ["au_1", "au_2"]


def test_action_units_are_learned_beside_emotions(tones: Path, tmp_path: Path) -> None:
    settings = table(joint_table(tones, tmp_path / "joint.csv"), 2)
    settings["data"] |= {"modality": "joint", "reading": {"columns": ["au_*"], "bad_rows": "skip"}}
    settings["network"] = {"name": "multi-task", "options": {"network": {"name": "crnn", **SMALL}, "alpha": 0.5}}
    with pytest.raises(DataError, match="names no file"):
        run.train(build(TrainConfig, settings), tmp_path / "run")
    lines = [line for line in (tmp_path / "joint.csv").read_text().splitlines() if not line.startswith(",")]
    (tmp_path / "joint.csv").write_text("\n".join(lines) + "\n")
    finished = run.train(build(TrainConfig, settings), tmp_path / "second")
    assert finished is not None
    outputs = {o.name: o.shape for o in read_package(finished.package).session.get_outputs()}
    assert outputs["action_units"][-1] == 2
    assert finished.facts["modality"] == "voice"


# --- what is refused ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.learning_rat=0.1", r"unknown option 'learning_rat' in \[training\]; did you mean learning_rate\?"),
        ("traning.epochs=1", "unknown option 'traning' in the configuration; did you mean training"),
        ("training.epochs=ten", "training.epochs must be a whole number; got 'ten'"),
        ("training.epochs=0", "training.epochs must be at least 1; got 0"),
        ("training.deterministic=1", "training.deterministic must be true or false; got 1"),
        ("training.schedule=cosin", "training.schedule must be one of one-cycle, cosine, constant; got 'cosin'"),
        ("network.name=crn", r"unknown network 'crn' \(did you mean 'crnn'"),
        ("network.options.hiden=3", r"unknown option 'hiden' of the network 'crnn' \(did you mean 'hidden'"),
        ("augmentation.sound.speeed=[1, 2]", r"unknown option 'speeed' in \[augmentation.sound\]; did you mean speed"),
        ("augmentation.sound.speed=1.5", "augmentation.sound.speed must be a list; got 1.5"),
        ("data.reading.dev=2", "dev must be a share above 0"),
        ("data.modality=smell", "data.modality must be one of voice, face, text, joint; got 'smell'"),
        ("training.mixup=0.2 ", None),
        ("epochs", "--set takes NAME=VALUE"),
    ],
)
def test_a_wrong_option_is_named(tones: Path, tmp_path: Path, affuse: Run, change: str, message: str | None) -> None:
    path = tmp_path / "tones.toml"
    path.write_text(tomli_w.dumps(table(tones)))
    if message is None:
        assert read_config(path, [change]).training.mixup == 0.2
        return
    result = affuse("train", path, "--set", change, "--out", tmp_path / "run")
    assert result.code == 2
    (line,) = result.err.strip().splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "run" / "package").exists()


def test_wrong_commands_are_one_sentence(
    trained: run.Run, tones: Path, tmp_path: Path, affuse: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AFFUSE_DATA", raising=False)
    out = tmp_path / "run"
    for arguments, message in (
        (("train",), "what is learned from? Give a TOML file, --manifest PATH"),
        (("train", "--manifest", tones), "--modality is needed: voice, face, text or joint"),
        (("train", "--manifest", tmp_path / "no", "--modality", "voice"), f"{tmp_path / 'no'} does not exist"),
        (("train", tmp_path / "no.toml"), "no.toml does not exist"),
        (("train", "--dataset", "ravdess", "--modality", "voice"), "--dataset needs --data"),
        (("train", "--manifest", tones, "--modality", "voice", "--out", trained.folder), "holds a run already"),
        (("train", "--manifest", tones, "--modality", "voice", "--out", tones), "is there and not empty"),
        (("train", "--manifest", tones, "--modality", "voice", "--devices", "2"), "name it by --out"),
        (("train", "--resume"), "--resume needs --out"),
        (("train", "--resume", "--out", out), "holds no run to go on with"),
        (("train", "--resume", "--out", trained.folder, "--epochs", "9"), "leave out what else was given"),
        (
            ("train", "--manifest", tones, "--modality", "voice", "--network", "landmark-graph", "--out", out),
            "reads landmarks",
        ),
        (("train", "--manifest", tones, "--modality", "voice", "--suggest", "3"), "--suggest needs --package"),
    ):
        result = affuse(*arguments)
        assert result.code == 2, arguments
        assert message in result.err, result.err
        assert len(result.err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["mixup", "adversarial"])
def test_what_changes_sound_and_pictures_is_refused_for_words(tmp_path: Path, name: str) -> None:
    rows = "\n".join(f"word{i} {i % 2},{('happy', 'sad')[i % 2]}" for i in range(40))
    (tmp_path / "t.csv").write_text(f"text,label\n{rows}\n")
    settings = {"data": {"source": str(tmp_path / "t.csv"), "modality": "text"}, "training": {name: 0.2}}
    with pytest.raises(ConfigError, match=rf"training.{name} is for networks over sound or pictures"):
        run.train(build(TrainConfig, settings), tmp_path / "run")


def test_weights_to_start_from_must_fit(tones: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from affuse.training import networks

    data, config = read(tones, "voice"), resolve(config_of(tones))
    network = networks.make("crnn", 5, **SMALL)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "start.safetensors")
    started = configs.build(
        TrainConfig, {**table(tones), "network": {"start": str(tmp_path / "start.safetensors"), "options": SMALL}}
    )
    task = prepare(resolve(started), data, Store(tmp_path / "store"))
    assert torch.equal(task.network.memory.weight_hh_l0, network.memory.weight_hh_l0)
    assert task.network.head.weight.shape[0] == 2, "the head is new: other labels"
    other = networks.make("crnn", 2, **{**SMALL, "hidden": 4})
    save_file({k: v.contiguous() for k, v in other.state_dict().items()}, tmp_path / "start.safetensors")
    with pytest.raises(AssetError, match=r"does not fit this network: it holds \d+ of the \d+ arrays"):
        prepare(resolve(started), data, Store(tmp_path / "store2"))
    assert config.network.start is None


# --- the configuration ---


def test_several_wrong_values_are_told_by_their_place(tones: Path) -> None:
    for change, message in (
        ({"training": {"warmup": 0.95}}, "training.warmup must be at most 0.9; got 0.95"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate must be above 0; got 0"),
        ({"training": 3}, "training must be a table; got 3"),
        ({"network": {"start": 3}}, "network.start must be a text; got 3"),
        ({"data": {"source": str(tones)}}, r"\[data\] needs the option 'modality'"),
    ):
        with pytest.raises(ConfigError, match=f"^{message}$"):
            build(TrainConfig, table(tones) | change)


def test_without_torch_the_command_is_named() -> None:
    code = """
import sys
sys.modules["torch"] = None
import affuse.training
try:
    affuse.training.train
except ImportError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "torch is not installed; run: pip install 'affuse[train]'"


def test_a_configuration_survives_being_written(tones: Path, tmp_path: Path) -> None:
    config = resolve(config_of(tones, licence="CC0"))
    configs.write_config(config, tmp_path / "c.toml")
    assert read_config(tmp_path / "c.toml") == config
    assert read_config(tmp_path / "c.toml", ["training.seed=7"]).training.seed == 7


def test_a_path_beside_a_file_may_hold_any_characters(tmp_path: Path) -> None:
    from affuse.training.options import make_config

    (tmp_path / "c.toml").write_text('data = { source = "clips.csv", modality = "voice" }', encoding="utf-8")
    table = tmp_path / "录音 😀.csv"
    table.touch()
    assert make_config(tmp_path / "c.toml", manifest=table).data.source == str(table)


def test_paths_are_taken_from_where_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    text = (
        '[data]\nsource = "clips"\nmodality = "voice"\n[data.reading]\nfolder = "corpora"\n'
        '[network]\nstart = "weights/start.safetensors"\n'
    )
    (tmp_path / "c.toml").write_text(text)
    config = read_config(tmp_path / "c.toml")
    assert config.data.source == str(tmp_path / "clips")
    assert config.data.reading == DataOptions(folder=tmp_path / "corpora")
    assert config.network.start == tmp_path / "weights" / "start.safetensors"


def test_every_modality_has_defaults() -> None:
    for modality, network in (("voice", "crnn"), ("face", "small-face"), ("text", "text-cnn"), ("joint", "concat")):
        config = resolve(build(TrainConfig, {"data": {"source": "x", "modality": modality}}))
        assert config.network.name == network
        assert None not in (config.training.epochs, config.training.batch_size, config.training.learning_rate)
        assert Augmentation.of(config.augmentation) != Augmentation()


@pytest.mark.parametrize(
    ("options", "rate"),
    [({}, 2e-4), ({"tuning": "lora"}, 2e-3), ({"tuning": "head"}, 1e-2), ({"tuning": "nothing"}, 2e-4)],
)
def test_pretrained_networks_are_tuned_gently(options: dict[str, Any], rate: float) -> None:
    def resolved(**training: Any) -> TrainingConfig:
        network = {"name": "transformer", "options": options}
        table = {"data": {"source": "x", "modality": "text"}, "network": network, "training": training}
        return resolve(build(TrainConfig, table)).training

    assert resolved().learning_rate == rate
    assert (resolved().epochs, resolved().batch_size) == (4, 32)
    assert resolved(learning_rate=0.5, epochs=1).learning_rate == 0.5
    assert resolved(learning_rate=0.5, epochs=1).epochs == 1


def test_a_network_without_its_pretraining_learns_like_others_from_scratch() -> None:
    rates = []
    for name, options in (("wav2vec2", {"pretrained": "none"}), ("crnn", {}), ("wav2vec2", {"pretrained": "folder"})):
        table = {"data": {"source": "x", "modality": "voice"}, "network": {"name": name, "options": options}}
        rates.append(resolve(build(TrainConfig, table)).training.learning_rate)
    assert rates[0] == rates[1]
    assert rates[2] is not None
    assert rates[1] is not None
    assert rates[2] < rates[1] / 10


# --- how it learns ---


def test_weights_of_labels_by_hand() -> None:
    targets = np.eye(3)[[0] * 8 + [1] * 2]
    raw = np.array([1 / np.sqrt(0.8), 1 / np.sqrt(0.2), 0.0])
    np.testing.assert_allclose(class_weights(targets.sum(axis=0)), raw / (0.8 * raw[0] + 0.2 * raw[1]))
    assert (targets @ class_weights(targets.sum(axis=0))).mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("progress", "schedule", "expected"),
    [
        (0.05, "one-cycle", 0.5),
        (0.1, "one-cycle", 1.0),
        (0.55, "one-cycle", 0.5),
        (1.0, "one-cycle", 0.0),
        (0.5, "cosine", 0.5),
        (1.0, "cosine", 0.0),
        (0.05, "constant", 0.5),
        (0.9, "constant", 1.0),
    ],
)
def test_the_course_of_the_rate(progress: float, schedule: str, expected: float) -> None:
    assert learning_rate_factor(progress, schedule, 0.1) == pytest.approx(expected)


class Numbers:
    """Inputs that say which rows they are."""

    def learning(self, rows: np.ndarray, draw: Draw) -> dict[str, Any]:
        return {"images": torch.from_numpy(rows + 0.0)}

    plain = whole = None  # type: ignore[assignment]


def rows_of(batches: Batches) -> list[float]:
    return [value for batch in batches for value in batch["inputs"]["images"].tolist()]


def test_batches_are_drawn_from_seed_and_epoch_and_shared_among_devices() -> None:
    part = Split(Numbers(), np.eye(2)[[0, 1] * 6])  # type: ignore[arg-type]
    config = TrainingConfig(batch_size=2, seed=5, imbalance="none")
    first, again, second = (rows_of(Batches(part, config, lambda e=e: e)) for e in (0, 0, 1))
    assert sorted(first) == list(range(12))
    assert first == again
    assert first != second
    halves = [rows_of(Batches(part, config, lambda: 0, rank, 2)) for rank in (0, 1)]
    assert sorted(halves[0] + halves[1]) == list(range(12))
    assert len(halves[0]) == len(halves[1]) == 6


def test_rare_labels_are_drawn_more_often() -> None:
    targets = np.eye(2)[[0] * 90 + [1] * 10]
    config = TrainingConfig(batch_size=10, imbalance="sampler")
    drawn = [
        row for epoch in range(40) for row in rows_of(Batches(Split(Numbers(), targets), config, lambda e=epoch: e))
    ]  # type: ignore[arg-type]
    # By the square roots: 0.9/√0.9 against 0.1/√0.1, three to one.
    assert np.mean(np.array(drawn) >= 90) == pytest.approx(0.25, abs=0.02)


def test_mixup_keeps_targets_shares() -> None:
    class Ones(Numbers):
        def learning(self, rows: np.ndarray, draw: Draw) -> dict[str, Any]:
            return {"images": torch.from_numpy(rows.astype(np.float32))[:, None]}

    targets = np.eye(2)[[0, 1] * 8]
    config = TrainingConfig(batch_size=16, mixup=1.0, imbalance="none")
    (batch,) = Batches(Split(Ones(), targets), config, lambda: 0)  # type: ignore[arg-type]
    torch.testing.assert_close(batch["targets"].sum(dim=1), torch.ones(16))
    assert ((batch["targets"] > 0.01) & (batch["targets"] < 0.99)).any()


def test_sound_is_cut_at_random_and_repeated_where_it_is_short() -> None:
    ramp = np.arange(16000, dtype=np.int16)
    inputs = Waveforms([ramp, ramp[:4000]], 0.5, None)
    draw = Draw.of(0)
    piece = inputs.learning(np.array([0, 0, 1]), draw)["waveform"] * 32767
    assert piece.shape == (3, 8000)
    assert (piece[0].diff() - 1).abs().max() < 0.01
    assert piece[0][0] != piece[1][0]
    torch.testing.assert_close(piece[2][4000:], piece[2][:4000])
    middle = inputs.plain(np.array([0]))["waveform"] * 32767
    assert middle[0, 0] == pytest.approx(4000)
    assert inputs.whole(1)["waveform"].shape == (1, 4000)


def fitted(tones: Path, tmp_path: Path, **training: Any) -> tuple[Any, dict[str, Any], list[dict[str, Any]]]:
    """A network trained for three epochs: before, and after each of them."""
    from lightning.pytorch import Callback

    settings = table(tones)
    settings["training"] |= {"schedule": "constant", "warmup": 0.0, "ema_decay": 0.0, **training}
    config = resolve(build(TrainConfig, settings))
    task = prepare(config, read(tones, "voice"), Store(tmp_path / "store"))
    before = {k: v.clone() for k, v in task.network.state_dict().items()}
    after: list[dict[str, Any]] = []

    class Watch(Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            after.append({k: v.clone() for k, v in module.network.state_dict().items()})

    run.learn(task, run.plan_of(config), tmp_path / "curves.csv", [Watch()])
    return task.network, before, after


def test_frozen_layers_stay_as_they_are_until_their_epoch(tones: Path, tmp_path: Path) -> None:
    _, before, after = fitted(tones, tmp_path, freeze_until=2)
    for key, value in before.items():
        frozen = all(torch.equal(after[epoch][key], value) for epoch in (0, 1))
        assert frozen is not key.startswith("head."), key
    assert not torch.equal(after[2]["memory.weight_hh_l0"], before["memory.weight_hh_l0"])
    assert not torch.equal(after[2]["stem.1.running_mean"], before["stem.1.running_mean"])


def test_layers_learn_at_rates_of_their_own(tones: Path, tmp_path: Path) -> None:
    config = TrainingConfig(epochs=1, batch_size=4, learning_rate=0.1, layer_decay=0.5, schedule="constant", warmup=0)
    task = prepare(resolve(config_of(tones)), read(tones, "voice"), Store(tmp_path / "store"))
    module = Classification(task.network, config)
    module.trainer = type("T", (), {"estimated_stepping_batches": 10, "max_epochs": 1})()  # type: ignore[assignment]
    rates = [group["lr"] for group in module.configure_optimizers()["optimizer"].param_groups]
    assert rates[-1] == pytest.approx(0.1)
    assert [b / a for a, b in itertools.pairwise(rates)] == pytest.approx([2.0] * (len(rates) - 1))


def test_masks_on_the_spectrum_and_smooth_labels_change_what_is_learned(tones: Path, tmp_path: Path) -> None:
    plain = fitted(tones, tmp_path / "a", epochs=1)[2][-1]["head.weight"]
    smooth = fitted(tones, tmp_path / "b", epochs=1, label_smoothing=0.2)[2][-1]["head.weight"]
    assert not torch.equal(plain, smooth)
    settings = table(tones, 1)
    settings["augmentation"] = {"spectrum": {"bands": 4, "frames": 10}}
    finished = run.train(build(TrainConfig, settings), tmp_path / "masked")
    assert finished is not None
    from affuse.training import networks

    with pytest.raises(ConfigError, match=r"augmentation.spectrum is for networks over log-mel"):
        Classification(networks.make("bag", 2, vocab_size=9), TrainingConfig(), None, SpectrumAugmentation())


# --- measuring and telling ---


def test_confused_pairs_in_words() -> None:
    confusion = np.array([[5, 1, 0], [0, 4, 4], [0, 0, 9]])
    assert record.confused(confusion, ["a", "b", "c"]) == [
        "b was taken for c in 4 of 8 rows",
        "a was taken for b in 1 of 6 rows",
    ]


def test_measures_name_recalls_and_an_interval_over_speakers() -> None:
    P = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    report = record.measure(P, np.array([0, 1, 1, 1]), np.array(["x", "x", "y", "y"]), ["a", "b"])
    assert report["accuracy"] == 0.75
    assert report["recalls"] == {"a": 1.0, "b": pytest.approx(2 / 3)}
    assert report["accuracy_95"] == [0.5, 1.0], "the two speakers' own accuracies"
    alone = record.measure(P, np.array([0, 1, 1, 1]), np.array(["x"] * 4), ["a", "b"])
    assert alone["accuracy_95"] is None


@pytest.mark.parametrize(("seconds", "told"), [(8.2, "8 s"), (200, "3 min"), (3600 * 2 + 310, "2 h 05 min")])
def test_durations_as_people_say_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_rows_to_label_next(trained: run.Run, tones: Path, tmp_path: Path, affuse: Run) -> None:
    files = sorted(tones.rglob("*.wav"))
    rows = [f"{path},{path.parent.name if i % 2 else ''},{path.name.split('_')[0]}" for i, path in enumerate(files)]
    (tmp_path / "m.csv").write_text("path,label,speaker\n" + "\n".join(rows) + "\n")
    arguments = ("--manifest", tmp_path / "m.csv", "--modality", "voice", "--package", trained.package)
    result = affuse("train", "--suggest", "4", *arguments, "--out", tmp_path / "next.csv")
    assert result.code == 0, result.err
    with (tmp_path / "next.csv").open() as file:
        suggested = list(csv.DictReader(file))
    assert len(suggested) == 4
    assert all(row["reason"] and row["label"] == "" for row in suggested)
    unlabelled = {path for i, path in enumerate(files) if not i % 2}
    assert {(tmp_path / row["path"]).resolve() for row in suggested} <= {path.resolve() for path in unlabelled}


# --- searched ---


def searched(source: Path, tmp_path: Path, **space: Any) -> Path:
    settings = table(source, 2)
    settings["search"] = space or {
        "training.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
        "network.options.widths": {"choices": [[4, 8], [2, 4]]},
        "training": {"batch_size": {"low": 6, "high": 12}},
    }
    (tmp_path / "search.toml").write_text(tomli_w.dumps(settings))
    return tmp_path / "search.toml"


def test_trainings_are_searched_and_the_search_goes_on(tones: Path, tmp_path: Path, affuse: Run) -> None:
    optuna = pytest.importorskip("optuna", reason="the search needs the extra tune (optuna)")
    path = searched(tones, tmp_path)
    arguments = ("tune", "--train", path, "--study", tmp_path / "s.db", "--out", tmp_path / "best.toml")
    result = affuse(*arguments, "--trials", "2")
    assert result.code == 0, result.err
    result = affuse(*arguments, "--trials", "1")
    assert "best of 3 trials: val_loss" in result.out
    study = optuna.load_study(study_name="affuse", storage=f"sqlite:///{tmp_path / 's.db'}")
    values = [trial.value for trial in study.trials if trial.value is not None]
    assert study.best_value == min(values)
    best = read_config(tmp_path / "best.toml")
    assert best.training.learning_rate == study.best_params["training.learning_rate"]
    assert list(best.network.options["widths"]) == json.loads(study.best_params["network.options.widths"])
    assert 6 <= study.best_params["training.batch_size"] <= 12
    assert best.data.source == str(tones)
    result = affuse("tune", "--train", path, "--set", "training.epochs=3", "--study", tmp_path / "s.db")
    assert result.code == 2
    assert "is a study of other data or options" in result.err


def test_a_trial_that_was_killed_comes_again(tones: Path, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="the search needs the extra tune (optuna)")
    from affuse.training.search import Search

    search = Search.of(read_config(searched(tones, tmp_path)))
    study = optuna.create_study(direction=search.direction)
    killed = study.ask()
    for name, span in search.spans.items():
        span.suggest(killed, name)
    search.run(study, 1)
    failed, again = study.trials
    assert failed.state == optuna.trial.TrialState.FAIL
    assert again.params == failed.params
    assert again.state == optuna.trial.TrialState.COMPLETE


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"training.learning_rate": {"low": 2.0, "high": 1.0}},
            "search.training.learning_rate: low must be below high",
        ),
        ({"training.learning_rate": {"low": 2.0}}, "has either low and high, or choices"),
        ({"training.learning_rate": {"low": 0.0, "high": 1.0, "log": True}}, "needs a low above 0"),
        (
            {"training.learning_rate": {"lo": 0.1, "high": 1.0}},
            r"unknown option 'lo' in \[search.training.learning_rate",
        ),
        ({"training.learning_rat": {"low": 0.1, "high": 1.0}}, "did you mean learning_rate"),
        ({"training.seed": 3}, "search.training.seed must be a table with low and high"),
    ],
)
def test_a_wrong_search_is_named(tones: Path, tmp_path: Path, affuse: Run, space: dict[str, Any], message: str) -> None:
    pytest.importorskip("optuna", reason="the search needs the extra tune (optuna)")
    result = affuse("tune", "--train", searched(tones, tmp_path, **space), "--study", tmp_path / "s.db")
    assert result.code == 2
    assert re.search(message, result.err), result.err


def test_a_search_needs_something_to_search(tones: Path, tmp_path: Path, affuse: Run) -> None:
    pytest.importorskip("optuna", reason="the search needs the extra tune (optuna)")
    (tmp_path / "c.toml").write_text(tomli_w.dumps(table(tones)))
    assert "needs a table [search]" in affuse("tune", "--train", tmp_path / "c.toml").err
    assert "give files of predictions and --labels" in affuse("tune").err
    assert "leave out files" in affuse("tune", tmp_path / "p.csv", "--train", tmp_path / "c.toml").err


@pytest.mark.data
@pytest.mark.slow
def test_ravdess_as_it_lies(data: Path, tmp_path: Path, affuse: Run) -> None:
    source = tmp_path / "ravdess"
    for actor in (1, 2, 3, 5, 6, 7, 8, 10):
        for path in sorted((data / "ravdess" / f"Actor_{actor:02d}").glob("03-01-0?-01-01-01-*.flac")):
            (source / path.parent.name).mkdir(parents=True, exist_ok=True)
            (source / path.parent.name / path.name).symlink_to(path)
    if not source.exists():
        pytest.skip("no RAVDESS in AFFUSE_DATA")
    small = [f"network.options.{key}={json.dumps(value)}" for key, value in SMALL.items()]
    changes: Iterator[str] = (part for change in small for part in ("--set", change))
    arguments = ("--manifest", source, "--modality", "voice", "--epochs", "1", "--out", tmp_path / "run")
    result = affuse("train", *arguments, *changes)
    assert result.code == 0, result.err
    assert read_package(tmp_path / "run" / "package").description.licence.startswith("CC BY-NC-SA 4.0")
