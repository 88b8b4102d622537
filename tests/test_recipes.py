"""Recipes of face and fuser, on corpora small enough to learn in seconds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse.labels import EKMAN, FERPLUS


@pytest.fixture(scope="module")
def face() -> Any:
    pytest.importorskip("torch", reason="torch, of the extra train, runs the recipe")
    from recipes import face

    return face


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """FER+ in small: noise, brighter at the left for one label and at the right for the other."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 160), ("valid", 20)):
        images = rng.integers(60, 120, (n, 48, 48)).astype(np.uint8)
        votes = np.zeros((n, 10), dtype=np.uint8)
        for i in range(n):
            images[i, : 24 if i % 2 else 48, :] += 90 if i % 2 else 0
            votes[i, i % 2] = 10
        columns = np.array([*FERPLUS.labels, "unknown", "NF"])
        np.savez(tmp_path / f"{split}.npz", images=images, votes=votes, columns=columns)
    return tmp_path


def stop_in_the_second_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a recipe's run be interrupted as by Ctrl-C, in the middle of its second epoch."""
    from lightning.pytorch import Callback

    from recipes import learning

    class Interrupted(Callback):
        def __init__(self, title: str) -> None:
            """Stand in for the progress that a recipe shows."""

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(learning, "TrainingProgress", Interrupted)


@pytest.fixture
def quick(face: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small configuration; the export has its own test."""
    monkeypatch.setattr(face, "export", lambda *_: None)
    monkeypatch.setattr(face, "write_card", lambda *_: None)
    monkeypatch.setattr(face, "_answers", lambda _, images: np.full((len(images), 8), 1 / 8))
    return lambda epochs: face.FaceConfig(epochs=epochs, batch_size=32, widths=(4, 8), blocks=(1, 1))


def test_a_killed_and_resumed_face_run_ends_like_an_undisturbed_one(
    face: Any, quick: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recipes.command import network_weights

    face.train(corpus, tmp_path / "whole", quick(3), resume=False)
    with monkeypatch.context() as changed:
        stop_in_the_second_epoch(changed)
        with pytest.raises(KeyboardInterrupt):
            face.train(corpus, tmp_path / "killed", quick(3), resume=False)
    face.train(corpus, tmp_path / "killed", quick(3), resume=True)
    whole, resumed = network_weights(tmp_path / "whole"), network_weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert value.equal(resumed[name]), name
    lines = (tmp_path / "killed" / "curves.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3"]


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(tmp_path: Path) -> None:
    from dataclasses import dataclass

    from affuse.errors import ConfigError
    from recipes.command import start_run

    @dataclass(frozen=True)
    class Config:
        epochs: int = 3
        sides: tuple[int, ...] = (40, 48)

    start_run(tmp_path / "new", Config(), resume=True)
    start_run(tmp_path / "new", Config(), resume=True)
    with pytest.raises(ConfigError, match="holds a run already; go on with it by --resume"):
        start_run(tmp_path / "new", Config(), resume=False)
    with pytest.raises(ConfigError, match=r"started with other settings: epochs 3 then, 4 now$"):
        start_run(tmp_path / "new", Config(epochs=4), resume=True)


@pytest.mark.parametrize("name", ["face", "text_en", "text_zh", "voice"])
def test_recipes_share_their_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib

    pytest.importorskip("torch", reason="torch, of the extra train, runs the recipe")
    recipe = importlib.import_module(f"recipes.{name}")
    with pytest.raises(SystemExit):
        recipe.main(["--help"])
    told = capsys.readouterr().out
    assert all(flag in told for flag in ("--data", "--out", "--epochs", "--seed", "--threads", "--resume"))


def test_only_what_can_be_resumed_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    from recipes.command import data_parser, errors_as_sentences, recipe_parser

    class Config:
        epochs, seed, threads = 1, 0, 1

    for parser, told in (
        (recipe_parser("recipe", Config), "stopped; the same command with --resume goes on after the last whole epoch"),
        (data_parser("study"), "stopped"),
    ):
        with pytest.raises(SystemExit) as ended, errors_as_sentences(parser):
            raise KeyboardInterrupt
        assert (ended.value.code, capsys.readouterr().err) == (130, f"{told}\n")


def test_a_recipe_says_in_a_sentence_what_is_missing(
    face: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        face.main(["--data", str(tmp_path), "--out", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("affuse: ")


def test_a_run_starts_from_the_weights_of_another(face: Any, quick: Any, corpus: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from recipes.command import network_weights

    face.train(corpus, tmp_path / "first", quick(1), resume=False)
    config = replace(quick(1), start=str(tmp_path / "first"), learning_rate=1e-9)
    face.train(corpus, tmp_path / "second", config, resume=False)
    before, after = network_weights(tmp_path / "first"), network_weights(tmp_path / "second")
    np.testing.assert_allclose(after["head.weight"], before["head.weight"], atol=1e-6)


def test_runs_joined_into_one_file_average_their_logits(face: Any, corpus: Path, tmp_path: Path) -> None:
    import torch

    from recipes.command import network_weights

    pytest.importorskip("onnx", reason="onnx, of the extra train, exports")
    runs = [tmp_path / "a", tmp_path / "b"]
    for seed, run in enumerate(runs):
        config = face.FaceConfig(epochs=1, batch_size=32, widths=(4, 8, 24), blocks=(1, 1, 1), seed=seed)
        face.train(corpus, run, config, resume=False)
    face.join(corpus, tmp_path / "both", runs)
    card = json.loads((tmp_path / "both" / "card.json").read_text())
    images = np.random.default_rng(1).integers(0, 255, (3, 48, 48)).astype(np.uint8)
    plain = torch.from_numpy(images).float().unsqueeze(1)
    closer = torch.nn.functional.interpolate(plain.flip(3)[:, :, 2:46, 2:46], (48, 48), mode="bilinear")
    logits = []
    for run, seen in ((runs[0], plain), (runs[0], closer), (runs[1], closer)):
        network = face.FaceNetwork(face.FaceConfig(widths=(4, 8, 24), blocks=(1, 1, 1)))
        network.load_state_dict(network_weights(run))
        with torch.no_grad():
            logits.append(network.eval()(seen).logits)
    expected = torch.softmax(torch.stack(logits).mean(dim=0) / card["temperature"], dim=1).numpy()
    answers = face._answers(tmp_path / "both" / "face.onnx", images)
    np.testing.assert_allclose(answers, expected, atol=2e-3)  # weights of half precision
    assert [member["run"] for member in card["members"]] == ["a", "b"]


def test_face_network_ignores_exposure_and_overfits_a_batch(face: Any) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    images = torch.rand(16, 1, 48, 48, generator=generator) * 200 + 20
    network = face.FaceNetwork(face.FaceConfig(widths=(8, 16), blocks=(1, 1), dropout=0.0)).eval()
    with torch.no_grad():
        plain, darker = network(images).logits, network(images * 0.6).logits
    assert torch.allclose(plain, darker, atol=0.05)
    targets = torch.arange(16) % 8
    optimizer = torch.optim.AdamW(network.train().parameters(), 3e-3)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(network(images).logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_augmentation_keeps_range_follows_the_schedule_and_repeats_by_seed(face: Any) -> None:
    from affuse.training.inputs import Draw

    images = np.random.default_rng(0).integers(0, 256, (64, 1, 48, 48)).astype(np.uint8)
    faces = face.Faces(images, lambda: 40)
    first, again, other = (faces.learning(np.arange(64), Draw.of(seed))["images"] for seed in (3, 3, 4))
    assert tuple(first.shape) == (64, 1, 40, 40)
    assert first.equal(again)
    assert not first.equal(other)
    assert first.min() >= 0
    assert first.max() <= 255.001


def test_teacher_and_votes_are_mixed_on_the_rows_to_learn_only(
    face: Any, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from affuse.data.corpora import load

    rows = load("ferplus", corpus, "train")
    asked = []

    def teacher(path: Path, images: np.ndarray) -> np.ndarray:
        asked.append((path, len(images)))
        return np.full((len(images), 8), 1 / 8) if path.stem == "old" else np.eye(8)[np.full(len(images), 2)]

    monkeypatch.setattr(face, "_answers", teacher)
    config = face.FaceConfig(teachers=("old.onnx", "sure.onnx"), teacher_share=0.4)
    targets = face._targets(rows, np.arange(10, 160), config)
    assert asked == [(Path("old.onnx"), 150), (Path("sure.onnx"), 150)]
    np.testing.assert_array_equal(targets[:10], rows.votes[:10])
    # An even row: all ten votes for the first label; one teacher is undecided, the other sure of the third.
    assert targets[10, [0, 2, 5]] == pytest.approx([0.6 + 0.4 / 16, 0.4 * (1 / 16 + 1 / 2), 0.4 / 16])
    np.testing.assert_allclose(targets.sum(axis=1), 1)
    np.testing.assert_array_equal(face._targets(rows, np.arange(160), face.FaceConfig()), rows.votes)


def test_pictures_of_rare_labels_are_shown_twice(face: Any, corpus: Path) -> None:
    from dataclasses import replace

    from affuse.data.corpora import load

    rows = load("ferplus", corpus, "train")
    targets = np.array([0] * 100 + [1] * 56 + [5] * 4)
    shown = face._shown(replace(rows, targets=targets), np.arange(10, 160), rare=0.03)
    assert np.bincount(shown)[10:].tolist() == [1] * 146 + [2] * 4


def test_an_epoch_reads_pictures_of_the_side_that_the_schedule_names(face: Any, quick: Any, corpus: Path) -> None:
    from dataclasses import replace

    sides = []

    class Watched(face.FaceNetwork):
        def forward(self, images: Any) -> Any:
            sides.append(images.shape[-1])
            return super().forward(images)

    face.FaceNetwork = Watched
    try:
        config = replace(quick(3), sides=(16, 24, 48), batch_size=64)
        face.train(corpus, corpus / "run", config, resume=False)
    finally:
        face.FaceNetwork = Watched.__base__
    training = sides[: 3 * (152 // 64)]
    assert training == [16, 16, 24, 24, 48, 48]


def test_copies_of_valid_are_found_byte_for_byte(face: Any, corpus: Path) -> None:
    from affuse.data.corpora import load

    train, valid = load("ferplus", corpus, "train"), load("ferplus", corpus, "valid")
    train.inputs[7] = valid.inputs[2]  # type: ignore[index]
    assert np.flatnonzero(face._copies(train, valid)).tolist() == [7]


def unseen(fuser: Any, sharpness: float, seed: int, spread: float = 0.5) -> Any:
    """What an expert of a certain skill says about 40 persons, each off by a vector of its own."""
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(40), 35)
    y = np.arange(1400) % 7
    L = rng.normal(size=(1400, 7)) + spread * rng.normal(size=(40, 7))[persons]
    L[np.arange(1400), y] += sharpness
    P = np.exp(L)
    return fuser.LabelledOutputs(P / P.sum(axis=1, keepdims=True), y, persons)


@pytest.fixture(scope="module")
def fuser() -> Any:
    pytest.importorskip("torch", reason="torch, of the extra train, is a neighbour of the recipe")
    from recipes import fuser

    return fuser


def test_the_fuser_is_learned_modality_by_modality(fuser: Any) -> None:
    rows = {"face": unseen(fuser, 2.0, 0), "voice": unseen(fuser, 1.5, 1)}
    rows["voice"].P[::7] = np.nan  # neither these rows nor their label count for anything
    both, face = fuser.learn(rows), fuser.learn({"face": rows["face"]})
    own = np.arange(12) < 6
    np.testing.assert_allclose(both.fuser.means_[:, own], face.fuser.means_, atol=1e-8)
    np.testing.assert_allclose(both.fuser.person_[np.ix_(own, own)], face.fuser.person_, rtol=0.1, atol=0.01)
    for covariance in (both.fuser.within_, both.fuser.person_, both.fuser.common_):
        assert np.abs(covariance[np.ix_(own, ~own)]).max() < 0.01, "nothing links modalities never seen together"
    assert np.diag(both.fuser.common_).tolist() == [fuser.DOMAIN["face"]] * 6 + [fuser.DOMAIN["voice"]] * 6
    np.testing.assert_allclose(both.prior, 1 / 7)
    assert both.notes["priors"]["face"] == pytest.approx([1 / 7] * 7)
    assert both.notes["priors"]["voice"] == pytest.approx([1 / 7] * 7)


def test_persons_of_faces_spread_as_far_as_told(fuser: Any) -> None:
    rows = {"voice": unseen(fuser, 1.5, 1), "face": unseen(fuser, 2.0, 0)}
    plain, told = fuser.learn(rows).fuser, fuser.learn(rows, face_spread=0.8).fuser
    face = np.arange(12) >= 6
    np.testing.assert_allclose(told.person_[np.ix_(face, face)], 0.4 * np.eye(6))
    assert not told.person_[np.ix_(face, ~face)].any()
    assert not told.person_[np.ix_(~face, face)].any()
    np.testing.assert_array_equal(told.person_[np.ix_(~face, ~face)], plain.person_[np.ix_(~face, ~face)])


def test_spread_of_persons_is_that_of_their_means_less_its_error(fuser: Any) -> None:
    rng = np.random.default_rng(0)
    persons = np.repeat(np.arange(300), 8)

    def said(spread: float) -> np.ndarray:
        L = 0.7 * rng.normal(size=(2400, 7)) + spread * rng.normal(size=(300, 7))[persons]
        return np.exp(L) / np.exp(L).sum(axis=1, keepdims=True)

    assert fuser.spread_of_persons(said(0.6), persons) == pytest.approx(0.36, rel=0.1)
    assert fuser.spread_of_persons(said(0.0), persons) == pytest.approx(0.0, abs=0.01)
    # By hand: with one contrast of six apart, two persons without any noise; -log 3 / 2 and log 3 / 2 on (1, -1)/√2.
    P = np.full((4, 7), 1 / 7)
    P[:2, :2], P[2:, :2] = [3 / 14, 1 / 14], [1 / 14, 3 / 14]
    assert fuser.spread_of_persons(P, np.array([0, 0, 1, 1])) == pytest.approx(2 * np.log(3) ** 2 / 2 / 6)


def test_learned_fuser_beats_every_expert_and_survives_the_way_to_disk(fuser: Any, tmp_path: Path) -> None:
    from affuse.fusion import NamedFuser

    rows = {name: unseen(fuser, 2.0 - j / 2, j) for j, name in enumerate(("face", "voice", "text"))}
    learnt = fuser.learn(rows)
    learnt.write(tmp_path)
    read = NamedFuser.read(tmp_path)
    assert (read.modalities, read.labels, read.method) == (tuple(rows), EKMAN.labels, "random_effects")
    assert read.default_prior.name == fuser.PRIOR
    # Persons of collections that differ as much as the recipe assumes.
    spread = {name: np.sqrt(0.25 + fuser.DOMAIN[name]) for name in rows}
    fresh = {name: unseen(fuser, 2.0 - j / 2, j + 10, spread[name]) for j, name in enumerate(rows)}
    P, y = np.stack([own.P for own in fresh.values()], axis=1), fresh["face"].y
    answers = read.fuse(P, tuple(rows))
    np.testing.assert_array_equal(answers, learnt.fuse(P, tuple(rows)))
    fused = (answers.argmax(axis=1) == y).mean()
    assert fused > max((own.P.argmax(axis=1) == y).mean() for own in fresh.values()) + 0.05
    assert answers.max(axis=1).mean() == pytest.approx(fused, abs=0.08), "sure about as often as right"


def test_ship_enters_size_and_checksum(fuser: Any, tmp_path: Path) -> None:
    from affuse.weights import manifest, shipped
    from recipes.ship import ship

    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "manifest.json").write_text("{}", encoding="utf-8")
    (tmp_path / "x.onnx").write_bytes(b"weights")
    ship(tmp_path / "x.onnx", "x", "2", "free", assets)
    entry = manifest(assets)["x"]
    assert (entry.bytes, entry.version, entry.licence) == (7, "2", "free")
    assert shipped("x", assets).read_bytes() == b"weights"
    assert sorted(p.name for p in assets.iterdir()) == ["manifest.json", "x.onnx"]
    (tmp_path / "y").mkdir()
    for name in ("fuser.json", "arrays.npz"):
        (tmp_path / "y" / name).write_bytes(name.encode())
    ship(tmp_path / "y", "y", "1", "free", assets)
    assert shipped("y", assets) == assets / "y" / "fuser.json"
    assert (assets / "y" / "arrays.npz").read_bytes() == b"arrays.npz"
    assert manifest(assets)["y"].file == "y/fuser.json"
