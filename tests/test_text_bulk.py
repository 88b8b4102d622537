"""Many texts read together get the answers that they get one by one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from affuse import weights
from affuse.experts.protobuf import changed, fields, message
from affuse.experts.text import TextExpert, bulk, expert
from affuse.labels import EKMAN

TEXTS = (
    "I am so happy for you!",
    "No.",
    "Ugh",
    "What a terrible, disgusting film; I walked out after an hour and went home.",
    "We need two more chairs.",
    "We need two more tables.",
    "Ich habe heute meine Arbeit verloren und weiß nicht weiter",
    "Das ist wirklich eine wunderbare Nachricht für uns alle",
    "Мне очень грустно, потому что он ушёл",
    "Estoy muy triste",
    "今天真的太开心了",
    "这部电影太差了，浪费时间",
    "Je ne sais pas comment le dire à ma famille",
    "今日は元気です",
    "123 !?",
    "मैं बहुत दुखी हूँ",
    " ".join(["It rained on Monday, and nobody came."] * 30) + " I hate it.",
)
SMALL = 1e-4  # float rounding moves a value by one of 255 steps now and then


@pytest.fixture(scope="module")
def reader() -> TextExpert:
    return TextExpert()


@pytest.mark.parametrize("code", ["en", "de", "zh"])
def test_a_network_reads_many_texts_as_it_reads_each(reader: TextExpert, code: str) -> None:
    network = reader.network(code)
    for text, together in zip(TEXTS, network.read_all(TEXTS), strict=True):
        for value, alone in zip(together, network.read(text), strict=True):
            assert np.abs(value - alone).max() < SMALL, text


def test_the_stock_network_does_not(reader: TextExpert) -> None:
    # Why it has to be changed: the range of the 8 bits is that of the whole batch.
    network = reader.network("en")
    ids = [network._tokenizer.encode(text).ids for text in TEXTS[4:6]]  # type: ignore[attr-defined]
    loud = [101, *([2204] * (len(ids[0]) - 2)), 102]
    row = np.array([ids[0], ids[1], loud])
    (stock,) = network._session.run(["probabilities"], {"ids": row, "mask": np.ones_like(row)})
    assert np.abs(stock[0] - network.read(TEXTS[4])[0]).max() > SMALL


def test_an_answer_does_not_depend_on_the_texts_beside_it(reader: TextExpert) -> None:
    network = reader.network("de")
    first = network.read_all(TEXTS)[6][0]
    assert np.abs(network.read_all(TEXTS[5:7])[1][0] - first).max() < SMALL


@pytest.mark.parametrize("language", [None, "de"])
def test_an_expert_reads_many_texts_as_it_reads_each(monkeypatch: pytest.MonkeyPatch, language: str | None) -> None:
    one_by_one = TextExpert(language)
    P, S = one_by_one.judge(TEXTS)
    monkeypatch.setattr(expert, "_MANY", 2)
    monkeypatch.setattr(expert, "_GROUP", 5)
    together = TextExpert(language)
    many, judged = together.judge([*TEXTS, TEXTS[0]])
    assert [together.language_of(text) for text in TEXTS] == [one_by_one.language_of(text) for text in TEXTS]
    assert np.array_equal(np.isnan(many[:-1]), np.isnan(P))
    assert np.nanmax(np.abs(many[:-1] - P)) < SMALL
    assert np.nanmax(np.abs(judged[:-1] - S)) < SMALL
    assert np.array_equal(many[-1], many[0])
    assert not together._multilingual()._ahead  # nothing is held when all is answered


def test_a_network_of_another_make_is_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # An exponential in the place of the root: it loads, and answers otherwise.
    nothing = [step if step[2] != "root" else ("Exp", *step[1:]) for step in bulk._GATHER]
    monkeypatch.setitem(bulk._FUNCTIONS, "GatherTexts", ("table buckets", "y", tuple(nothing)))
    network = TextExpert().network("de")
    assert network._bulk is None  # type: ignore[attr-defined]
    with network.reading_ahead(TEXTS[:2]):  # type: ignore[attr-defined]
        assert not network._ahead  # type: ignore[attr-defined]
    assert len(network.read_all(TEXTS[:2])) == 2


def test_tensors_may_lie_beside_the_network(tmp_path: Path) -> None:
    # As weights.session allows them: in files whose checksums are known.
    model = onnx.load(weights.shipped("text_en"))
    onnx.save(model, tmp_path / "own.onnx", save_as_external_data=True, location="own.bin")
    found = weights.session(tmp_path / "own.onnx", ("own.bin",), bulk.by_themselves)
    ids = np.array([[101, 2204, 102], [101, 2919, 102]])
    network = weights.session(weights.shipped("text_en"))
    for row, answer in zip(ids, found.run(["sentiment"], {"ids": ids, "mask": np.ones_like(ids)})[0], strict=True):
        alone = network.run(["sentiment"], {"ids": row[None], "mask": np.ones_like(row[None])})[0]
        assert np.abs(alone[0] - answer).max() < SMALL


@pytest.mark.parametrize("name", ["text_en", "text_multi"])
def test_the_changed_network_is_valid_onnx(name: str, tmp_path: Path) -> None:
    source, path = weights.shipped(name), tmp_path / "changed.onnx"
    path.write_bytes(bulk.by_themselves(source.read_bytes()))
    for other in weights.companions(source):  # which hold some of its tensors
        shutil.copyfile(other, tmp_path / other.name)
    onnx.checker.check_model(str(path))
    model = onnx.load(str(path), load_external_data=False)
    left = {node.op_type for node in model.graph.node if not node.domain}
    assert not left & {"DynamicQuantizeLinear", "MatMulInteger"}


def test_long_texts_are_averaged_by_their_tokens() -> None:
    def mean(ids: np.ndarray, texts: Sequence[int]) -> list[np.ndarray]:
        assert all((ids[:, 0] == 0) & (ids[:, -1] == 9))
        return [ids[:, 1:-1].mean(axis=1, keepdims=True)]

    # At most two tokens a part: 1 1 and 4, whose means 1 and 4 count twice and once.
    found = bulk.read_in_batches([[0, 1, 1, 4, 9], [0, 7, 9]], 4, mean)
    assert [float(values[0][0]) for values in found] == [2.0, 7.0]


def test_fields_are_those_of_protobuf() -> None:
    node = onnx.helper.make_node("Clip", ["x", ""], ["y"], domain="own")
    written = message((1, "x"), (1, ""), (2, "y"), (4, "Clip"), (7, "own"))
    assert onnx.NodeProto.FromString(written) == node
    assert list(fields(node.SerializeToString())) == [(1, b"x"), (1, b""), (2, b"y"), (4, b"Clip"), (7, b"own")]
    whole = onnx.AttributeProto.FromString(message((1, "axes"), (8, -1), (8, 300), (20, 7)))
    assert list(whole.ints) == [-1, 300]
    assert onnx.AttributeProto.FromString(message((1, "alpha"), (2, 0.5), (20, 1))).f == 0.5
    assert changed(written, (7,), lambda value: None) == message((1, "x"), (1, ""), (2, "y"), (4, "Clip"))


def test_what_is_no_network_is_not_changed() -> None:
    with pytest.raises(ValueError, match="no ONNX file"):
        bulk.by_themselves(b"\xff" * 20)
    assert bulk.bulk_session(weights.shipped("text_en").parent / "text_en.md") is None


def test_answers_have_the_shapes_of_the_expert(monkeypatch: pytest.MonkeyPatch, reader: TextExpert) -> None:
    monkeypatch.setattr(expert, "_MANY", 1)
    P, S = reader.judge(["123"])
    assert P.shape == (1, len(EKMAN))
    assert S.shape == (1, 3)
    assert np.isnan(P).all()
