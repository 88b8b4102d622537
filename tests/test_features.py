"""Features of words, faces and any items: the base of extractors, the store, the registry and embeddings."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from affuse import weights
from affuse.errors import AssetError, ConfigError, DataError, MissingExtraError
from affuse.experts.face import FaceExpert
from affuse.experts.voice import VoiceExpert
from affuse.features import Clip, FeatureStore, make, names
from affuse.features.base import Extractor
from affuse.features.cache import content_of
from affuse.features.faces import faces_of
from affuse.features.gradients import hog
from affuse.features.items import Measured, NoEvidenceError
from affuse.features.landmarks import action_units, head_pose, level
from affuse.features.registry import canonical

DEMO = Path(__file__).parent.parent / "demo" / "clip.mp4"
TEXTS = ["I am happy, so happy today", "what a sad and grey day", "it is a day like any other", "happy and sad"]


# --- words ---


def test_tf_idf_is_that_of_scikit_learn() -> None:
    found = make("tf-idf", ngrams=(1, 1)).fit(TEXTS)
    reference = TfidfVectorizer().fit(TEXTS)
    np.testing.assert_array_equal(found.get_feature_names_out(), reference.get_feature_names_out())
    np.testing.assert_allclose(found.transform(TEXTS[::-1]), reference.transform(TEXTS[::-1]).toarray())
    bare = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), max_features=50)
    characters = make("tf-idf-char", max_features=50)
    np.testing.assert_allclose(characters.fit_transform(TEXTS), bare.fit_transform(TEXTS).toarray())


def test_a_bag_of_words_counts_words() -> None:
    found = make("bag-of-words").fit(TEXTS)
    row = dict(zip(found.get_feature_names_out(), found.transform([TEXTS[0]])[0], strict=True))
    assert (row["happy"], row["today"], row["sad"]) == (2, 1, 0)
    np.testing.assert_array_equal(found.transform(TEXTS), CountVectorizer().fit_transform(TEXTS).toarray())


def test_chinese_characters_are_words() -> None:
    found = make("bag-of-words").fit(["我很开心 OK", "我不开心"])
    assert set(found.get_feature_names_out()) == {"我", "很", "不", "开", "心", "ok"}


def test_a_text_without_words_is_a_gap_and_one_without_known_words_is_not() -> None:
    found = make("tf-idf").fit(TEXTS)
    rows = found.extract(["", "  \n", "unheard"])
    assert np.isnan(rows.values[:2]).all()
    assert (rows.values[2] == 0).all()
    assert rows.reasons == ("no words", "no words", "")


def test_a_vocabulary_needs_texts() -> None:
    with pytest.raises(DataError, match="tf-idf has nothing to learn from: no words"):
        make("tf-idf").fit(["", " "])
    with pytest.raises(DataError, match="text is needed; got ndarray"):
        make("tf-idf").fit([np.zeros(3)])


def test_extractors_stand_in_pipelines() -> None:
    model = make_pipeline(make("tf-idf"), LogisticRegression(C=10)).fit(TEXTS[:2], ["glad", "sad"])
    assert model.predict(["happy happy", "grey"]).tolist() == ["glad", "sad"]
    copy = clone(make("mfcc", coefficients=20))
    assert copy.get_params()["coefficients"] == 20


# --- registry ---


def test_names_are_found_however_they_are_written() -> None:
    assert canonical("tfidf") == canonical("TF_IDF") == "tf-idf"
    assert type(make("logmel")) is type(make("log-mel"))
    with pytest.raises(ConfigError, match=r"unknown feature 'mfc' \(did you mean 'mfcc'\?\); known: action-units, "):
        make("mfc")
    with pytest.raises(ConfigError, match="'mfcc' has no option 'bands'; options: coefficients, statistics"):
        make("mfcc", bands=3)


@pytest.mark.parametrize("name", names())
def test_every_extractor_says_what_it_is(name: str) -> None:
    extractor = make(name)
    assert extractor.name == name
    assert extractor.modality in ("text", "voice", "face")
    assert extractor.unit
    assert extractor.__doc__
    assert names(extractor.modality).count(name) == 1


# --- the store ---


class Counted(Extractor):
    """The mean of samples, and how often it was asked."""

    name, modality, unit, calls = "counted", "voice", "1", 0

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def look(self, item: np.ndarray) -> np.ndarray:
        type(self).calls += 1
        if len(item) == 0:
            raise NoEvidenceError("empty")
        return np.array([item.mean() * self.factor])

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        return np.array(["mean"])


def test_what_was_measured_once_is_kept_by_content_and_settings(tmp_path: Path) -> None:
    Counted.calls = 0
    store, items = FeatureStore(tmp_path), [np.ones(3), np.arange(4.0), np.empty(0)]
    first = Counted().extract(items, store=store)
    again = Counted().extract([item.copy() for item in items], store=FeatureStore(tmp_path))
    assert Counted.calls == 3
    np.testing.assert_array_equal(first.values, [[1.0], [1.5], [np.nan]])
    np.testing.assert_array_equal(again.values, first.values)
    assert again.reasons == ("", "", "empty")
    assert Counted(2.0).extract(items, store=store).values[1, 0] == 3.0
    assert Counted.calls == 6


def test_a_broken_file_of_the_store_is_measured_again_and_replaced(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    Counted().extract([np.ones(3)], store=store)
    (kept,) = tmp_path.rglob("*.npz")
    kept.write_bytes(kept.read_bytes()[:40])
    assert Counted().extract([np.ones(3)], store=store).values[0, 0] == 1.0
    with np.load(kept, allow_pickle=False) as parts:
        assert parts["value"].tolist() == [1.0]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [kept]  # no part is left behind


def test_the_content_of_a_file_is_its_bytes_and_its_times(tmp_path: Path) -> None:
    one, two = tmp_path / "one.bin", tmp_path / "two.bin"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    assert content_of(one) == content_of(Clip(two))
    assert content_of(Clip(one, 0.0, 1.0)) != content_of(Clip(one, 0.0, 2.0))
    two.write_bytes(b"else")
    assert content_of(one) != content_of(two)


def test_a_store_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert Counted().extract([np.ones(3)], store=FeatureStore(blocked)).values[0, 0] == 1.0


def test_progress_tells_the_share_done_and_gaps_are_gaps() -> None:
    seen: list[tuple[str, float]] = []
    found = Counted().measure([np.ones(2), None], lambda name, share: seen.append((name, share)))
    assert seen == [("counted", 0.5), ("counted", 1.0)]
    assert found[1] == Measured(None, "nothing given")


# --- gradients ---


def test_the_gradients_of_a_vertical_edge_are_horizontal() -> None:
    crop = np.zeros((48, 48), dtype=np.uint8)
    crop[:, 24:] = 255
    energy = hog(crop).reshape(-1, 9).sum(axis=0)
    # A horizontal gradient has the angle 0, the border between the first and the last of nine unsigned bins.
    assert energy[[0, 8]].sum() == pytest.approx(energy.sum())
    assert energy[0] == pytest.approx(energy[8])
    turned = hog(np.ascontiguousarray(crop.T)).reshape(-1, 9).sum(axis=0)
    assert turned.argmax() == 4  # 90 degrees


def test_sift_histograms_have_length_one_and_repeat() -> None:
    rng = np.random.default_rng(0)
    crops = [cv2.GaussianBlur(rng.integers(0, 256, (48, 48), dtype=np.uint8), (5, 5), 1.5) for _ in range(6)]
    sift = make("sift", words=8)
    X = sift.fit_transform(crops)
    assert X.shape == (6, 8 * 5)
    np.testing.assert_allclose((X.reshape(6, 5, 8) ** 2).sum(axis=2), 1.0)
    np.testing.assert_array_equal(clone(sift).fit(crops).transform(crops), X)
    # The whole face is the mean of its quarters, weighted by their patches: 11 x 11 places, 5 or 6 a side.
    shares = X.reshape(6, 5, 8) ** 2
    sizes = np.array([25, 30, 30, 36]) / 121
    np.testing.assert_allclose(shares[:, 0], np.einsum("q,nqw->nw", sizes, shares[:, 1:]))


# --- geometry ---


def head(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Landmarks (68, 2) in pixels of the generic head seen from afar; only those of eyes and nose mean anything."""
    from affuse.features.landmarks import _HEAD, _HEAD_POINTS

    y, p, r = np.radians([yaw, pitch, roll])
    turn = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    points = np.zeros((68, 2))
    points[_HEAD_POINTS] = 200 + 80 * (_HEAD @ (tilt @ turn @ nod).T)[:, :2]
    return points


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 0, 0), (-25, 0, 0), (0, 15, 0), (0, 0, 20), (20, -10, 5)])
def test_head_pose_finds_the_turn_of_a_head_of_usual_proportions(angles: tuple[float, float, float]) -> None:
    found = head_pose(head(*angles))
    # Roll is that of the eyes' line, which yaw and pitch together tilt a little.
    np.testing.assert_allclose(found, angles, atol=0.5 if 0 in angles[:2] else 4)


def test_a_mirrored_head_looks_and_tilts_the_other_way() -> None:
    points = head(20, 10, 5)
    mirrored = points * [-1, 1] + [400, 0]
    mirrored[[36, 39, 42, 45]] = mirrored[[45, 42, 39, 36]]
    np.testing.assert_allclose(head_pose(mirrored), head_pose(points) * [-1, 1, -1], atol=1e-6)


def test_level_landmarks_do_not_know_place_size_or_roll() -> None:
    points = np.random.default_rng(1).normal(size=(68, 2))
    c, s = np.cos(0.7), np.sin(0.7)
    moved = 3.5 * points @ np.array([[c, s], [-s, c]]) + [100, -20]
    np.testing.assert_allclose(level(moved), level(points), atol=1e-9)
    eyes = level(points)[36:42].mean(axis=0), level(points)[42:48].mean(axis=0)
    np.testing.assert_allclose(eyes, [(-0.5, 0), (0.5, 0)], atol=1e-9)


def test_action_units_follow_what_moves() -> None:
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = (-0.5, 0), (0.5, 0)
    still = action_units(points)
    points[[48, 54]] = (-0.6, -0.1), (0.6, -0.1)  # a smile: corners of the mouth up and out
    points[66] = (0, 0.2)  # lower lip down
    found = action_units(points)
    changed = {name: round(found[name] - still[name], 3) for name in found if abs(found[name] - still[name]) > 1e-9}
    assert changed == {
        "au12_15_mouth_corner_height": 0.1,
        "au20_mouth_width": 1.2,
        "au23_24_lip_thickness": -0.1,  # the outer edge of the lower lip stayed where it was
        "au25_lip_gap": 0.2,
    }


def test_landmarks_lie_on_the_face_of_the_demo() -> None:
    pytest.importorskip("dlib", reason="landmarks need the extra features")
    from affuse.features.landmarks import locate

    face = next(iter(faces_of(DEMO)))
    points = locate(face)
    x, y, width, height = face.box
    inside = (points[:, 0] > x - 0.2 * width) & (points[:, 0] < x + 1.2 * width)
    inside &= (points[:, 1] > y) & (points[:, 1] < y + 1.2 * height)
    assert inside.all()
    eyes, nose, mouth, chin = (points[part, 1].mean() for part in (slice(36, 48), 30, slice(48, 68), 8))
    assert eyes < nose < mouth < chin
    mirrored = next(iter(faces_of(np.ascontiguousarray(face.image[:, ::-1]))))
    yaw, pitch, roll = head_pose(points)
    other = head_pose(locate(mirrored))
    np.testing.assert_allclose(other, [-yaw, pitch, -roll], atol=6)
    smile = action_units(points)
    assert smile["au12_15_mouth_corner_height"] > 0.1  # she smiles
    assert smile["au25_lip_gap"] > 0.05  # and shows her teeth


def test_geometry_is_measured_once_for_all_that_follows_from_it(tmp_path: Path) -> None:
    pytest.importorskip("dlib", reason="landmarks need the extra features")
    store = FeatureStore(tmp_path)
    clip = Clip(DEMO, 0.0, 0.5)
    rows = {name: make(name).extract([clip], store=store).values for name in ("landmarks", "head-pose", "action-units")}
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    assert {name: row.shape[1] for name, row in rows.items()} == {"landmarks": 136, "head-pose": 3, "action-units": 10}


def test_two_moments_of_one_person_are_one_identity() -> None:
    pytest.importorskip("dlib", reason="the identity network needs the extra features")
    first, second = make("identity-embedding").transform([Clip(DEMO, 0.0, 0.3), Clip(DEMO, 3.0, 3.3)])
    assert np.linalg.norm(first - second) < 0.6


# --- embeddings ---


def test_embeddings_are_those_of_the_shipped_experts() -> None:
    rng = np.random.default_rng(2)
    crop = cv2.GaussianBlur(rng.integers(0, 256, (48, 48), dtype=np.uint8), (9, 9), 3)
    found = make("face-embedding").transform([crop])[0]
    face = next(iter(faces_of(crop)))
    session = FaceExpert()._session
    np.testing.assert_allclose(
        found, session.run(["embedding"], {"images": face.crop()[None, None].astype(np.float32)})[0][0], rtol=1e-5
    )
    sound = (0.1 * rng.normal(size=16000)).astype(np.float32)
    expected = VoiceExpert()._session.run(["embedding"], {"waveform": sound[None]})[0][0]
    np.testing.assert_allclose(make("voice-embedding").transform([sound])[0], expected, rtol=1e-5)


def test_sentences_of_one_mind_are_nearer_than_others() -> None:
    glad, happy, angry = make("sentence-embedding").transform(
        ["I am so glad", "This makes me happy", "I hate you, get lost"]
    )
    assert glad @ happy / np.linalg.norm(happy) > glad @ angry / np.linalg.norm(angry)
    rows = make("sentence-embedding", language="zh").extract(["今天真开心", "!!!"])
    assert rows.reasons == ("", "no words")
    assert np.isfinite(rows.values[0]).all()


def test_a_network_that_is_not_there_is_asked_for_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"wav2vec2 needs a network.*optimum-cli export onnx.*model=FOLDER"):
        make("wav2vec2").transform([np.zeros(16000)])
    with pytest.raises(AssetError, match=r"holds no model\.onnx for transformer"):
        make("transformer", model=tmp_path).transform(["a"])


def write_network(path: Path, source: str, kind: int, rows: np.ndarray) -> None:
    """A network whose states are ``rows`` by token, or samples times ``rows`` by time."""
    onnx = pytest.importorskip("onnx", reason="networks are made with the extra train")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    state = helper.make_tensor_value_info("last_hidden_state", onnx.TensorProto.FLOAT, ["n", "t", rows.shape[1]])
    inputs = [helper.make_tensor_value_info(source, kind, ["n", "t"])]
    if kind == onnx.TensorProto.INT64:
        nodes = [helper.make_node("Gather", ["rows", source], ["last_hidden_state"])]
    else:
        nodes = [
            helper.make_node("Unsqueeze", [source, "last"], ["column"]),
            helper.make_node("MatMul", ["column", "rows"], ["last_hidden_state"]),
        ]
    held = [
        numpy_helper.from_array(rows.astype(np.float32), "rows"),
        numpy_helper.from_array(np.array([2]), "last"),
    ]
    graph = helper.make_graph(nodes, "states", inputs, [state], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))


def test_a_transformer_is_read_from_its_folder(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="networks are made with the extra train")
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "good": 1, "bad": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write_network(tmp_path / "model.onnx", "input_ids", onnx.TensorProto.INT64, np.array([[0, 0], [1, 3], [5, -1]]))
    found = make("transformer", model=tmp_path)
    np.testing.assert_allclose(
        found.transform(["good bad", "bad", "good good bad what"]), [[3, 1], [5, -1], [1.75, 1.25]]
    )
    assert found.weights()["model.onnx"] == weights.sha256_of(tmp_path / "model.onnx")


def test_wav2vec2_hears_sound_as_it_was_trained_to(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="networks are made with the extra train")
    write_network(tmp_path / "model.onnx", "input_values", onnx.TensorProto.FLOAT, np.array([[1.0, 2.0]]))
    sound = (0.25 + 0.1 * np.sin(np.arange(16000))).astype(np.float32)
    # Normalised sound has the mean 0; sound as it is keeps its own.
    np.testing.assert_allclose(make("wav2vec2", model=tmp_path).transform([sound]), [[0, 0]], atol=1e-5)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    np.testing.assert_allclose(
        make("wav2vec2", model=tmp_path).transform([sound])[0], sound.mean() * np.array([1, 2]), rtol=1e-4
    )


# --- what is missing ---


@pytest.mark.parametrize(
    ("name", "module", "item"),
    [("mfcc", "librosa", 0.1 * np.sin(np.arange(16000))), ("landmarks", "dlib", np.zeros((48, 48), dtype=np.uint8))],
)
def test_a_missing_library_names_the_command_that_brings_it(
    name: str, module: str, item: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"is not installed; run: pip install 'affuse\[features\]'"):
        make(name).transform([item])


def test_a_wrong_landmark_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dlib", reason="landmarks need the extra features")
    landmarks = importlib.import_module("affuse.features.landmarks")
    monkeypatch.setitem(landmarks._SHA256, "shape_predictor_68_face_landmarks.dat", "0" * 64)
    with pytest.raises(AssetError, match="is missing or has the wrong checksum; install face_recognition_models again"):
        landmarks._model("shape_predictor_68_face_landmarks.dat")
