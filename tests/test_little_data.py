"""Few labels: the contrast by hand, layers and their rates, what is sure, what is worth labelling, and end to end."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
load_file = pytest.importorskip("safetensors.torch", reason="weights are safetensors").load_file
pytest.importorskip("lightning", reason="the loop needs Lightning")
pytest.importorskip("onnx", reason="bundles are exported by way of onnx")

from affuse.data.own import DataOptions, Sample, read  # noqa: E402
from affuse.errors import ConfigError, DataError  # noqa: E402
from affuse.labels import LabelSpace  # noqa: E402
from affuse.packages import Package, PackageDescription, read_package, write_package  # noqa: E402
from affuse.training import networks  # noqa: E402
from affuse.training.augment import PictureAugmentation  # noqa: E402
from affuse.training.config import DataConfig, NetworkConfig, TrainConfig, TrainingConfig, resolve  # noqa: E402
from affuse.training.inputs import Draw, Pictures, Store  # noqa: E402
from affuse.training.low_resource import pretrain as pretraining  # noqa: E402
from affuse.training.low_resource import pseudo  # noqa: E402
from affuse.training.low_resource.active import choose_next, suggest, write_suggestions  # noqa: E402
from affuse.training.low_resource.inference import predict  # noqa: E402
from affuse.training.low_resource.pretrain import (  # noqa: E402
    PretrainOptions,
    nt_xent,
    pretrain,
    pretrain_from,
    save_start,
    views_of,
)
from affuse.training.low_resource.pseudo import (  # noqa: E402
    PseudoOptions,
    confident_rows,
    in_rounds,
    pseudo_label,
    write_manifest,
)
from affuse.training.low_resource.transfer import layers, parameter_groups  # noqa: E402
from affuse.training.networks import tokenizers  # noqa: E402
from affuse.training.networks.base import Network, Output  # noqa: E402
from affuse.training.networks.exporter import export  # noqa: E402
from affuse.training.task import prepare  # noqa: E402
from research import low_resource as measure  # noqa: E402
from research.low_resource import Benchmark, Table, augmentation_table, few_labels_table  # noqa: E402

MOODS = LabelSpace("moods", ("anger", "happiness", "sadness"))


# Pre-training


def test_the_contrast_by_hand() -> None:
    # Two rows whose views agree and which are orthogonal: every view sees its partner at 1, two others at 0.
    views = torch.eye(2)
    expected = -math.log(math.exp(1 / 0.5) / (math.exp(1 / 0.5) + 2))
    assert float(nt_xent(views, views, 0.5)) == pytest.approx(expected, rel=1e-6)
    assert float(nt_xent(3 * views, 7 * views, 0.5)) == pytest.approx(expected, rel=1e-6)  # only directions count
    # Swapped partners stand at 0, and of the two others one is at 1.
    swapped = -math.log(1 / (math.exp(1 / 0.5) + 2))
    assert float(nt_xent(views, views.flip(0), 0.5)) == pytest.approx(swapped, rel=1e-6)


def small_face(**options: Any) -> Any:
    torch.manual_seed(0)
    return networks.make("small-face", 3, widths=(8, 16), blocks=(1, 1), **options)


def clouds(n: int) -> np.ndarray:
    """Pictures (n, 1, 24, 24) of smooth noise."""
    coarse = torch.rand(n, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(coarse, 24, mode="bicubic").clamp(0, 1)
    pixels: np.ndarray = (smooth * 255).byte().numpy()
    return pixels


def likeness_of_views(network: Any, inputs: Any, n: int) -> float:
    """How often the nearest embedding of a second view is that of the same row."""
    rows, draw = np.arange(n), Draw.of(99)
    network.eval()
    with torch.no_grad():
        first, second = (network(**inputs.learning(rows, draw)).embedding for _ in range(2))
    first, second = (torch.nn.functional.normalize(z - z.mean(dim=0), dim=1) for z in (first, second))
    return float(((first @ second.T).argmax(dim=1) == torch.arange(n)).float().mean())


def test_pre_training_makes_views_of_one_row_alike_and_repeats() -> None:
    inputs = Pictures(clouds(64), PictureAugmentation(flip=0.5, rotation=30, brightness=0.5))
    options = PretrainOptions(epochs=10, batch_size=64, learning_rate=0.01)
    before = likeness_of_views(small_face(), inputs, 64)
    first, second = small_face(), small_face()
    pretrain(first, inputs, 64, options)
    pretrain(second, inputs, 64, options)
    assert likeness_of_views(first, inputs, 64) > before + 0.1
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("reads", "name"), [("waveform", "crnn"), ("images", "small-face")])
def test_views_of_one_sample_differ_and_fit_the_network(reads: str, name: str, tmp_path: Path) -> None:
    import wave

    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((9000 * np.sin(np.arange(32000) / 7)).astype("<i2").tobytes())
    samples = [Sample(where="tone", path=path, pixels=clouds(1)[0, 0])]
    network = networks.make(name, 2)
    views = views_of(network, Store(tmp_path / "store"), samples, 1.5, None)
    first, second = (views.learning(np.array([0]), Draw.of(seed))[reads] for seed in (1, 2))
    assert first.shape == second.shape
    assert not torch.equal(first, second)
    assert network.eval()(**{reads: first}).embedding.shape == (1, network.embedding_width)


def test_hidden_words_are_learned_from_their_company(tmp_path: Path) -> None:
    # Every text repeats two words of one of two families: a hidden word is told by the others, at best to ln 2.
    rng = np.random.default_rng(0)
    families = (("sun", "sea"), ("rain", "mud"))
    texts = [" ".join(rng.choice(families[i % 2], 6)) for i in range(200)]
    tokenizer = tokenizers.train(texts, 100)
    network = networks.make("bag", 2, vocab_size=tokenizer.get_vocab_size(), width=16, dropout=0.0)
    samples = [Sample(where=str(i), text=text) for i, text in enumerate(texts)]
    inputs = views_of(network, Store(tmp_path), samples, 3.0, tokenizer)
    pretrain(network, inputs, len(texts), PretrainOptions(epochs=10, batch_size=20, learning_rate=0.03))
    ids, mask = (
        torch.from_numpy(a) for a in tokenizers.encode(tokenizer, ["sun sun", "sea sea", "rain", "mud mud mud"])
    )
    with torch.no_grad():
        sun, sea, rain, mud = torch.nn.functional.normalize(network(ids, mask).embedding, dim=1)
    assert float(sun @ sea) > float(sun @ rain) + 0.3
    assert float(rain @ mud) > float(sea @ mud) + 0.3


def test_a_start_holds_everything_but_the_head(tmp_path: Path) -> None:
    network = small_face()
    save_start(network, tmp_path / "start.safetensors")
    held = load_file(tmp_path / "start.safetensors")
    assert set(held) == {key for key in network.state_dict() if not key.startswith("head.")}
    assert all(torch.equal(held[key], network.state_dict()[key]) for key in held)


def test_training_starts_from_what_pre_training_wrote(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [
        f"{' '.join(rng.choice(['sun', 'sea', 'rain', 'mud', 'hill'], 5))},{'happy' if i % 2 else 'sad'}"
        for i in range(60)
    ]
    table = tmp_path / "texts.csv"
    table.write_text("\n".join(["text,label", *dict.fromkeys(lines), "a line that nobody labelled,"]), encoding="utf-8")
    network = NetworkConfig("bag", vocabulary=100, options={"width": 8, "buckets": 64})
    config = TrainConfig(DataConfig(str(table), "text"), network=network)
    out = tmp_path / "start.safetensors"
    pretrain_from(resolve(config), out, PretrainOptions(epochs=2, batch_size=16))
    started = replace(network, start=out, tokenizer=out.with_suffix(".tokenizer.json"))
    reading = DataOptions(unlabelled="keep")
    again = resolve(replace(config, network=started, data=replace(config.data, reading=reading)))
    task = prepare(again, read(table, "text", reading), Store(tmp_path / "store"))
    held = load_file(out)
    assert torch.equal(task.network.tokens.weight, held["tokens.weight"])
    assert task.tokenizer is not None
    assert "nobody" in task.tokenizer.get_vocab() or "no" in task.tokenizer.get_vocab()


def test_one_row_is_too_few_to_compare() -> None:
    with pytest.raises(DataError, match="compares rows with each other; got 1"):
        pretrain(small_face(), Pictures(clouds(1), None), 1, PretrainOptions())
    with pytest.raises(ConfigError, match="hidden takes a share"):
        PretrainOptions(hidden=1.0)


# Transfer


def test_layers_follow_each_other_and_hold_every_weight_once() -> None:
    network = small_face()
    found = layers(network)
    weights = [id(p) for layer in found for p in layer.parameters]
    assert sorted(weights) == sorted(id(p) for p in network.parameters())
    assert found[-1].name == "head"


def test_a_stack_of_blocks_is_as_many_layers() -> None:
    from torch import nn

    block = lambda: nn.ModuleDict({"in": nn.Linear(2, 2), "out": nn.Linear(2, 2)})  # noqa: E731
    encoder = nn.ModuleDict({"words": nn.Embedding(5, 2), "stack": nn.ModuleList([block(), block(), block()])})
    stem = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    network = nn.ModuleDict({"stem": stem, "encoder": encoder, "head": nn.Linear(2, 3)})
    names = [layer.name for layer in layers(network)]
    assert names == ["stem", "encoder.words", "encoder.stack.0", "encoder.stack.1", "encoder.stack.2", "head"]
    groups = parameter_groups(network, 1.0, layer_decay=0.5, frozen=2)
    assert [group.rate for group in groups] == [0.125, 0.25, 0.5, 1.0]
    encoder["words"].weight.requires_grad_(False)
    assert [layer.name for layer in layers(network)] == [name for name in names if name != "encoder.words"]


@pytest.mark.parametrize("options", [{"layer_decay": 0.0}, {"layer_decay": 1.5}, {"frozen": 99}, {"frozen": -1}])
def test_rates_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parameter_groups(small_face(), 1.0, **options)


# Pseudo-labels


def test_only_sure_rows_get_a_label_and_rare_labels_are_not_crowded_out() -> None:
    P = np.array([[0.95, 0.05], [0.91, 0.09], [0.97, 0.03], [0.1, 0.9], [0.6, 0.4], [np.nan, np.nan], [0.92, 0.08]])
    assert confident_rows(P, PseudoOptions(threshold=0.9, ratio=10)).tolist() == [0, 1, 2, 3, 6]
    assert confident_rows(P, PseudoOptions(threshold=0.9, ratio=2)).tolist() == [0, 2, 3]  # the surest two of label 0
    assert confident_rows(P, PseudoOptions(threshold=0.9, quota=1)).tolist() == [2, 3]
    assert confident_rows(P, PseudoOptions(threshold=0.96)).tolist() == [2]
    assert confident_rows(P, PseudoOptions(threshold=0.99)).tolist() == []


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.2}, {"quota": 0}, {"ratio": 0.5}])
def test_wrong_options_of_pseudo_labels_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PseudoOptions(**options)


class BrightnessNetwork(Network):
    """Answers by the mean brightness of a grey picture: dark anger, middling happiness, bright sadness."""

    modality, reads, n_labels, embedding_width, picture = "face", "images", 3, 2, (16, 1)

    def forward(self, images: torch.Tensor) -> Output:
        level = images.mean(dim=(2, 3)) / 255
        spread = ((images - images.mean(dim=(2, 3), keepdim=True)) ** 2).mean(dim=(2, 3)).sqrt() / 255
        logits = -60 * (level - torch.tensor([[0.1, 0.5, 0.9]])) ** 2
        return Output(logits, torch.cat([level, spread], dim=1))

    def example(self) -> dict[str, torch.Tensor]:
        return {"images": torch.rand(2, 1, 16, 16) * 255}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("bundle")
    export(BrightnessNetwork(), folder / "model.onnx")
    description = PackageDescription(
        name="brightness",
        modality="face",
        labels=MOODS,
        reads=("images",),
        inputs={"images": {"size": 16, "channels": 1}},
        prior=(1 / 3, 1 / 3, 1 / 3),
        measured={},
        licence="CC0",
    )
    return read_package(write_package(folder / "bundle", description, {"model.onnx": folder / "model.onnx"}))


def grey(level: float, **fields: Any) -> Sample:
    pixels = np.full((16, 16), round(255 * level), np.uint8)
    return Sample(where=f"level {level}", pixels=pixels, **fields)


def test_a_bundle_is_asked_as_it_would_be_by_hand(bundle: Package) -> None:
    answers = predict(bundle, [grey(0.1), grey(0.5), grey(0.9)])
    assert answers.probabilities.argmax(axis=1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(answers.embeddings[:, 0], [26 / 255, 128 / 255, 230 / 255], atol=1e-6)
    with pytest.raises(DataError, match="no samples"):
        predict(bundle, [])


def test_sure_samples_become_labelled_ones_in_the_order_of_other_labels(bundle: Package) -> None:
    other = LabelSpace("own", ("sadness", "neutral", "anger", "happiness"))
    samples = [grey(level, split="valid") for level in (0.1, 0.3, 0.52, 0.9)]  # 0.3 lies between two labels
    found = pseudo_label(bundle, samples, PseudoOptions(threshold=0.9), other)
    assert [label.sample.label for label in found] == [2, 3, 0]
    assert [label.sample.where for label in found] == ["level 0.1", "level 0.52", "level 0.9"]
    assert all(label.confidence >= 0.9 and label.sample.split == "train" for label in found)


def test_rounds_train_on_what_was_given_and_on_what_was_found_last(bundle: Package) -> None:
    seen: list[list[int | None]] = []

    def train(samples: Any) -> Package:
        seen.append([sample.label for sample in samples])
        return bundle

    given = [grey(0.1, label=0)]
    last, found = in_rounds(train, given, [grey(0.5), grey(0.3), grey(0.9)], rounds=2, labels=MOODS)
    assert last is bundle
    assert seen == [[0], [0, 1, 2], [0, 1, 2]]
    assert [label.sample.label for label in found] == [1, 2]


def test_the_manifest_is_one_that_training_reads(bundle: Package, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "faces").mkdir()
    samples = []
    for number, level in enumerate(np.linspace(0.05, 0.95, 13)):
        path = tmp_path / "faces" / f"{number}.png"
        Image.fromarray(np.full((16, 16), round(255 * level) + np.eye(16, dtype=np.uint8) * number)).save(path)
        samples.append(Sample(where=str(number), path=path, speaker=f"p{number}"))
    given = [replace(s, label=label) for s, label in zip(samples[::2], (0, 0, 0, 1, 2, 2, 2), strict=True)]
    given += [replace(samples[7], label=1, split="valid")]
    found = pseudo_label(bundle, [samples[i] for i in (1, 5, 9, 11)], PseudoOptions(threshold=0.5, ratio=9))
    assert len(found) == 4
    table = tmp_path / "out" / "more.csv"
    write_manifest(table, given, found, MOODS)
    again = read(table, "face")
    assert set(again.labels.labels) == set(MOODS.labels)
    assert len(again.split("train")) == 11
    assert len(again.split("valid")) == 1
    assert {s.path.resolve() for s in again.samples if s.path} == {s.path.resolve() for s in samples if s.path} - {
        samples[3].path
    }
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["origin"] for row in rows] == ["given"] * 8 + ["pseudo"] * 4
    assert all(0.5 <= float(row["confidence"]) <= 1 for row in rows if row["origin"] == "pseudo")


def test_what_no_table_can_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"level 0\.5 has neither a file nor a text"):
        write_manifest(tmp_path / "m.csv", [grey(0.5, label=1)], [], MOODS)
    assert not list(tmp_path.iterdir())


# Active learning


def test_of_every_group_of_unsure_rows_the_middle_one_is_picked() -> None:
    # Two groups of which the network is unsure, three and five rows, and rows far away that it is sure of.
    groups = np.array([[0.0, 0], [1, 0], [2, 0], [10, 10], [11, 10], [12, 10], [13, 10], [14, 10]])
    sure = np.array([[50.0, -50]] * 40) + np.arange(40)[:, None]
    P = np.concatenate([np.full((8, 2), 0.5), np.tile([0.99, 0.01], (40, 1))])
    chosen = choose_next(P, np.concatenate([groups, sure]), 2)
    assert len(chosen.rows) == 2
    all_doubt = 8 + 40 * 0.02
    few = choose_next(P[:8], groups, 2)
    assert few.rows.tolist() == [5, 1]
    assert few.like.tolist() == [5, 3]
    np.testing.assert_allclose(few.scores, [5 / 8, 3 / 8], rtol=1e-4)
    assert chosen.scores.sum() <= (8 + 12 * 0.02) / all_doubt + 1e-4  # of 20 rows in the pool


def test_doubt_is_what_the_likeliest_label_does_not_lead_by() -> None:
    P = np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [1.0, 0.0, 0.0]])
    chosen = choose_next(P, np.array([[0.0], [10.0], [20.0]]), 3)
    assert chosen.rows.tolist() == [1, 0, 2]
    np.testing.assert_allclose(chosen.scores, np.array([1.0, 0.8, 0.0]) / 1.8, atol=1e-5)


def test_copies_are_suggested_once_and_nothing_is_chosen_of_nothing() -> None:
    assert choose_next(np.full((4, 2), 0.5), np.ones((4, 3)), 3).like.tolist() == [4]
    assert len(choose_next(np.empty((0, 2)), np.empty((0, 3)), 3).rows) == 0


def test_suggestions_say_why_and_become_a_manifest(bundle: Package, tmp_path: Path) -> None:
    samples = [grey(level) for level in (0.1, 0.3, 0.31, 0.5, 0.7, 0.9)]
    found = suggest(bundle, samples, 3, labelled=[grey(0.1), grey(0.31)])
    assert len(found) == 3
    assert found[0].reason.startswith("between anger and happiness (0.5")  # 0.3 and 0.31 have most of the doubt
    assert found[0].reason.endswith("; speaks for 2 that are alike")
    assert found[1].sample.where == "level 0.7"
    assert found[1].reason.startswith("between ")
    assert found[1].reason.endswith("; unlike anything labelled")
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
    assert all(0 <= s.score <= 1 for s in found)
    assert len(suggest(bundle, samples, 99)) == 6
    write_suggestions(found, tmp_path / "next.csv")
    with (tmp_path / "next.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["where"] for row in rows] == [s.sample.where for s in found]
    assert all(row["label"] == "" for row in rows)
    with pytest.raises(ConfigError, match="at least 1 clip"):
        suggest(bundle, samples, 0)


# Measuring


def test_a_table_shows_means_and_the_range_of_seeds() -> None:
    table = Table("Faces", ("clean", "dark"), {"without": [[50.0, 20.0], [60.0, 40.0]]})
    assert table.markdown().splitlines() == [
        "### Faces",
        "",
        "|  | clean | dark |",
        "| --- | --- | --- |",
        "| without | 55.0 (50.0…60.0) | 30.0 (20.0…40.0) |",
    ]


def test_every_method_learns_what_is_plain_to_see() -> None:
    # Stripes lie or stand, in whatever light: every method must learn that, and must not touch a row it may not see.
    rng = np.random.default_rng(0)
    truth = np.arange(80) % 2
    stripes = 127 + 100 * np.sin(np.arange(24) * 1.5 + rng.uniform(0, 6, (80, 1)))
    grids = np.repeat(stripes[:, None, None, :], 24, axis=2)
    pictures = np.where(truth[:, None, None, None] == 0, grids, grids.transpose(0, 1, 3, 2)).astype(np.uint8)
    problem = Benchmark(
        name="stripes",
        network=lambda: networks.make("small-face", 2, widths=(8, 16), blocks=(1, 1), dropout=0.0),
        plain=Pictures(pictures[:60], None),
        augmented=Pictures(pictures[:60], PictureAugmentation(brightness=0.5)),
        views=Pictures(pictures[:60], PictureAugmentation(brightness=0.5)),
        targets=np.eye(2)[truth[:60]],
        conditions={"clean": Pictures(pictures[60:], None)},
        truth=truth[60:],
        training=TrainingConfig(epochs=5, batch_size=8, learning_rate=0.01, schedule="constant"),
        pretraining=PretrainOptions(epochs=1, batch_size=16),
    )
    for table in (augmentation_table(problem, [0]), few_labels_table(problem, [0], share=0.2)):
        for name, seeds in table.rows.items():
            assert seeds[0][0] >= 90, name


@pytest.mark.parametrize(
    ("program", "arguments", "sentence"),
    [
        (pseudo, ["--package", "none", "--data", "none.csv", "--modality", "text", "--out", "x.csv"], "none.csv"),
        (pretraining, ["none.toml", "--out", "x.safetensors"], "none.toml does not exist"),
        (measure, ["--data", "none"], "none is not a folder"),
    ],
)
def test_programs_end_with_a_sentence(
    program: Any, arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_code:
        program.main(arguments)
    assert exit_code.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("affuse: ")
    assert sentence in said
    assert not list(tmp_path.iterdir())
