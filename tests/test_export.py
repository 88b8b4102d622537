"""Exported systems and experts answer as their source, appear whole or not at all, and are used as the shipped ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse import weights
from affuse.analyzer import Analyzer, load_experts
from affuse.data.corpora import Dataset
from affuse.errors import AssetError, ConfigError, OutputError
from affuse.evaluation.speed import Request, measure, timed
from affuse.experts import Abilities
from affuse.experts.face import FaceExpert, HaarDetector
from affuse.experts.voice import VoiceExpert, why_not
from affuse.exporting import convert, export, parity
from affuse.exporting.inference import evenly, feeds_for, watched
from affuse.exporting.licences import licences
from affuse.exporting.parity import compare
from affuse.exporting.quantisation import is_quantised, quantise
from affuse.fusion import CommonCausePool, NamedFuser, ProductRule
from affuse.labels import EKMAN
from affuse.media import Recording
from affuse.packages import load_package, read_package, read_system, write_package
from affuse.packages.system import Part, SystemDescription
from affuse.testing import synthetic
from command import Run, caller

onnx = pytest.importorskip("onnx", reason="networks are quantised by onnx (extra export)")

from small_networks import TWO, column, description, loudness, network  # noqa: E402 (they need onnx as well)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_clip(tmp_path_factory.mktemp("clip") / "drawn.mp4", seconds=3.0)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    out = tmp_path_factory.mktemp("systems") / "float"
    quick("shipped", "onnx", out, clip)
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, system: Path, clip: Path) -> Path:
    out = tmp_path_factory.mktemp("systems") / "int8"
    quick(str(system), "onnx-int8", out, clip)
    return out


@pytest.fixture
def affuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("AFFUSE_DATA", raising=False)
    return caller(monkeypatch, capfd)


# --- the folder ------------------------------------------------------------------------------------------------------


def quick(source: str, target: str, out: Path, clip: Path, **more: Any) -> dict[str, Any]:
    return export(source, out, target, clip=clip, times=1, **more)


def test_a_system_holds_all_that_it_needs(system: Path) -> None:
    told = json.loads((system / "bundle.json").read_text(encoding="utf-8"))
    there = {p.relative_to(system).as_posix() for p in system.rglob("*") if p.is_file()}
    assert told["kind"] == "system"
    assert told["target"] == "onnx"
    assert set(told["files"]) == there - {"bundle.json"}
    assert {
        "fuser/fuser.json",
        "fuser/arrays.npz",
        "LICENCES.md",
        "parity.json",
        "voice/voice.onnx",
        "text/text_multi.md",
        "text/text_zh.md",
    } <= there
    assert all(weights.sha256_of(system / name) == digest for name, digest in told["files"].items())
    assert sorted(p.name for p in system.parent.iterdir()) == [system.name]  # nothing is left beside it


def test_the_description_comes_back_as_it_was_written(system: Path) -> None:
    described = read_system(system).description
    assert SystemDescription.from_json(described.to_json()) == described
    assert described.modalities == ("face", "voice", "text")
    assert described.weights["face"]["face"].licence == weights.manifest()["face"].licence


def test_an_exported_system_answers_as_the_shipped_one(system: Path, clip: Path) -> None:
    detector = HaarDetector()
    shipped = Analyzer({**load_experts(), "face": FaceExpert(detector)}).analyze(clip)
    exported = Analyzer(read_system(system).experts(detector=detector)).analyze(clip)
    assert [v.segment for v in exported.verdicts] == [v.segment for v in shipped.verdicts]
    assert {m for v in shipped.verdicts for m, e in v.evidence.items() if e.probabilities is not None} >= {
        "face",
        "voice",
    }
    for ours, theirs in zip(exported.verdicts, shipped.verdicts, strict=True):
        assert ours.fused is not None
        np.testing.assert_array_equal(ours.fused, theirs.fused)
    assert exported.settings["fuser"] == shipped.settings["fuser"]


def test_the_fuser_is_the_one_in_the_folder(system: Path, tmp_path: Path, clip: Path) -> None:
    other = shutil.copytree(system, tmp_path / "other")
    learned = NamedFuser.read(other / "fuser")
    notes = {**learned.notes, "prior": "uniform"}
    replace(learned, notes=notes).write(other / "fuser")
    with pytest.raises(AssetError, match=r"fuser\.json has the wrong checksum"):
        Analyzer.from_package(other)
    told = json.loads((other / "bundle.json").read_text(encoding="utf-8"))
    told["files"]["fuser/fuser.json"] = weights.sha256_of(other / "fuser" / "fuser.json")
    (other / "bundle.json").write_text(json.dumps(told), encoding="utf-8")
    analyzer = Analyzer.from_package(other)
    assert analyzer.prior.name == "uniform"
    assert analyzer.analyze(clip).settings["prior"]["name"] == "uniform"


def test_a_system_of_the_first_version_is_read(system: Path, tmp_path: Path, clip: Path) -> None:
    """Its fuser was a single file of numbers; exported again, it is a folder."""
    old = shutil.copytree(system, tmp_path / "old")
    rng = np.random.default_rng(0)
    y = np.arange(210) % 7
    P = rng.dirichlet(np.ones(7), size=(210, 3)) / 2 + np.eye(7)[y][:, None] / 2
    fitted = CommonCausePool().fit(P, y)
    pool = {name: getattr(fitted, f"{name}_").tolist() for name in ("temperatures", "weights", "priors", "prior")}
    pool |= {"modalities": ["face", "voice", "text"], "labels": EKMAN.labels, "separate": fitted.separate}
    shutil.rmtree(old / "fuser")
    (old / "fuser.json").write_text(json.dumps({"pool": pool, "conflict_thresholds": {"2": 0.5}}), encoding="utf-8")
    told = json.loads((old / "bundle.json").read_text(encoding="utf-8"))
    files = {name: digest for name, digest in told["files"].items() if not name.startswith("fuser/")}
    _tell(old, files={**files, "fuser.json": weights.sha256_of(old / "fuser.json")})
    named = NamedFuser.read(read_system(old).fuser)
    np.testing.assert_array_equal(named.fuse(P, ("face", "voice", "text")), fitted.predict_proba(P))
    assert Analyzer.from_package(old).analyze(clip).summary.label is not None
    for damage in ("{", "[]", '{"pool": {}}', '{"pool": {"modalities": 3}}'):
        (old / "fuser.json").write_text(damage, encoding="utf-8")
        with pytest.raises(AssetError, match="does not hold what a fuser has learned"):
            NamedFuser.read(old / "fuser.json")


def test_a_system_may_have_a_fuser_of_ones_own(tmp_path: Path, clip: Path) -> None:
    rng = np.random.default_rng(0)
    P, y = rng.dirichlet(np.ones(7), size=(70, 1)), np.arange(70) % 7
    NamedFuser(ProductRule().fit(P, y), ("text",), EKMAN.labels, "product").write(tmp_path / "own")
    quick("shipped", "onnx", tmp_path / "out", clip, fuser=tmp_path / "own")
    analyzer = Analyzer.from_package(tmp_path / "out")
    assert list(analyzer.experts) == ["text"]
    assert analyzer.fuser.method == "product"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: (f / "voice/voice.onnx").unlink(), "voice.onnx is missing"),
        (lambda f: (f / "face/face.md").write_text("mine"), "face.md has the wrong checksum"),
        (lambda f: (f / "bundle.json").write_text('{"kind": "system", "format": 9}'), "of format 9"),
        (lambda f: (f / "bundle.json").write_text('{"kind": "system", "format": 1}'), "entry 'experts' is missing"),
        (lambda f: _tell(f, files={"../x": "0" * 64}), "cannot be a file of a system"),
        (lambda f: _tell(f, files={}), "checksum of fuser/fuser.json is missing"),
    ],
)
def test_a_damaged_system_is_refused(
    system: Path, tmp_path: Path, change: Callable[[Path], object], sentence: str
) -> None:
    copy = shutil.copytree(system, tmp_path / "copy")
    change(copy)
    with pytest.raises(AssetError, match=sentence):
        read_system(copy)


def _tell(folder: Path, **entries: Any) -> None:
    told = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps(told | entries), encoding="utf-8")


def test_systems_and_experts_are_not_taken_for_each_other(system: Path, tmp_path: Path) -> None:
    expert = write_package(tmp_path / "voice", description(), {"model.onnx": loudness()})
    with pytest.raises(AssetError, match="a single expert, not a whole system; ask it with --experts"):
        read_system(expert)
    with pytest.raises(AssetError, match="describes a whole system, not one expert; use it by --package"):
        load_package(system)


def test_licences_say_what_is_not_commercial() -> None:
    mine, face = Part("mine", "CC BY 4.0", "3", "yes"), Part("face", "FER2013 images: research use", "2", "no")
    page = licences([mine, face])
    assert "| mine | 3 | CC BY 4.0 | yes | not stated |" in page
    assert "| affuse, the code that runs the weights |  | Apache-2.0 | yes |  |" in page
    assert "**Commercial use of this folder: no.** These exclude it: face." in page
    assert "**Commercial use of this folder: yes.**" in licences([mine])


# --- parity ----------------------------------------------------------------------------------------------------------


def test_a_difference_is_what_it_is(clip: Path) -> None:
    class Told:
        modality = "face"
        abilities = Abilities(reads=("frames",), classifies=True)

        def __init__(self, P: np.ndarray) -> None:
            self.P = P

        def classify(self, images: list[Any]) -> np.ndarray:
            return np.resize(self.P, (len(images), 2))

    a, b = Told(np.array([[0.6, 0.4], [0.9, 0.1]])), Told(np.array([[0.45, 0.55], [0.9, 0.1]]))
    difference = compare(a, b, clip)  # type: ignore[arg-type]
    assert difference.n == len(synthetic.pictures())
    assert difference.max_difference == pytest.approx(0.15)
    assert difference.same_answers == 0.5
    silent = Told(np.array([[np.nan, np.nan], [0.9, 0.1]]))
    assert compare(a, silent, clip).max_difference == 1.0  # type: ignore[arg-type]
    assert compare(silent, silent, clip).max_difference == 0.0  # type: ignore[arg-type]


def test_an_export_that_answers_otherwise_leaves_nothing(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = write_package(tmp_path / "mine", description(), {"model.onnx": loudness()})
    nodes = [("Abs", ["waveform"], "loud"), ("ReduceMean", ["loud", "axes"], "mean"), ("Neg", ["mean"], "less")]
    other = network({"waveform": ["n", "samples"]}, [*nodes, *column("less")], 2)
    monkeypatch.setattr(convert.shutil, "copyfile", lambda source, target: Path(target).write_bytes(other))
    with pytest.raises(AssetError, match=r"voice answers otherwise than its source: .* where 0.0001 is allowed"):
        quick(str(expert), "onnx", tmp_path / "out", clip)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"]


def test_other_folders_are_left_alone(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    expert = write_package(tmp_path / "mine", description(), {"model.onnx": loudness()})
    with pytest.raises(OutputError, match="is there and is no package"):
        quick(str(expert), "onnx", tmp_path / "photos", clip)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"meow"


def test_an_expert_is_exported_as_a_bundle(tmp_path: Path, clip: Path) -> None:
    mine = replace(description(), licence="CC BY 4.0")
    expert = write_package(tmp_path / "mine", mine, {"model.onnx": loudness(), "card.md": b"# mine\n"})
    facts = quick(str(expert), "onnx", tmp_path / "out", clip)
    found = read_package(tmp_path / "out")
    assert set(found.description.files) == {"model.onnx", "card.md", "parity.json", "LICENCES.md"}
    assert replace(found.description, files={}, created="") == replace(mine, affuse=found.description.affuse)
    assert facts["fixed_inputs"]["voice"]["max_difference"] == 0
    assert json.loads((tmp_path / "out" / "parity.json").read_text(encoding="utf-8")) == facts
    assert "| CC BY 4.0 | yes |" in (tmp_path / "out" / "LICENCES.md").read_text(encoding="utf-8")


def test_an_own_expert_takes_its_place_in_a_system(tmp_path: Path, clip: Path) -> None:
    voice = write_package(tmp_path / "mine", description(), {"model.onnx": loudness()})
    out = tmp_path / "out"
    quick("shipped", "onnx", out, clip, experts={"voice": str(voice), "text": "text"})
    experts = read_system(out).experts()
    assert list(experts) == ["voice", "text"]
    assert experts["voice"].labels == TWO
    ours = Analyzer.from_package(out).analyze(clip)
    theirs = Analyzer(load_experts({"voice": str(voice), "text": "text"})).analyze(clip)
    np.testing.assert_array_equal(ours.verdicts[0].fused, theirs.verdicts[0].fused)


# --- INT8 ------------------------------------------------------------------------------------------------------------


def test_int8_networks_are_smaller_and_answer_nearly_the_same(system: Path, small: Path) -> None:
    facts = json.loads((small / "parity.json").read_text(encoding="utf-8"))
    face = facts["networks"]["face"]
    assert face["precision"] == "INT8, static, per channel"
    assert face["bytes"]["after"] == (small / "face" / "face.onnx").stat().st_size
    assert face["bytes"]["after"] < 0.6 * face["bytes"]["before"]  # which was in half precision
    assert 0 < facts["fixed_inputs"]["face"]["max_difference"] < 0.3
    assert facts["fixed_inputs"]["face"]["same_answers"] >= 0.8
    assert any("for want of data" in note for note in facts["notes"])


def test_what_is_int8_already_stays_as_it_is(system: Path, small: Path) -> None:
    for name in ("voice/voice.onnx", "text/text_en.onnx", "text/text_multi.onnx", "text/text_zh.onnx"):
        assert (small / name).read_bytes() == (system / name).read_bytes()
        assert is_quantised(small / name)
    assert is_quantised(small / "face" / "face.onnx")
    assert not is_quantised(system / "face" / "face.onnx")


def test_weights_are_quantised_a_channel_each_in_seven_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    W = (rng.standard_normal((4, 3, 3, 3)) * np.array([1.0, 10.0, 0.1, 3.0])[:, None, None, None]).astype(np.float32)
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    source.write_bytes(_convolution(W))
    feeds = [{"x": rng.uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(8)]
    quantise(source, target, feeds, static=True)
    model = onnx.load(str(target))
    assert {p.key: p.value for p in model.metadata_props} == {"alphabet": "abc"}
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    (whole,) = (a for a in held.values() if a.dtype == np.int8 and a.shape == W.shape)
    (scales,) = (a for name, a in held.items() if a.shape == (4,) and a.dtype == np.float32 and "scale" in name)
    assert np.abs(whole).max() <= 64
    # Every weight is its integer times the scale of its channel, to half a step.
    np.testing.assert_allclose(whole * scales[:, None, None, None], W, atol=float(scales.max()) / 2 * 1.001)
    y = [weights.session(p).run(None, feeds[0])[0] for p in (source, target)]
    assert 0 < np.abs(y[0] - y[1]).max() < 0.05 * np.abs(y[0]).max()


def _convolution(W: np.ndarray) -> bytes:
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "W"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", floats, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", floats, ["n", 4, 6, 6])],
        [onnx.numpy_helper.from_array(W, "W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"alphabet": "abc"})
    return bytes(model.SerializeToString())


def test_networks_over_tokens_find_their_ranges_in_every_run(tmp_path: Path) -> None:
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    W = np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", floats, ["n", 32])],
        [helper.make_tensor_value_info("y", floats, ["n", 8])],
        [onnx.numpy_helper.from_array(W, "W")],
    )
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(source))
    quantise(source, target, [], static=False)
    assert is_quantised(target)
    for scale in (1.0, 1000.0):  # no range was fixed beforehand
        x = scale * np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)
        (y,) = weights.session(target).run(None, {"x": x})
        np.testing.assert_allclose(y, x @ W, atol=0.03 * np.abs(x @ W).max())


def test_what_is_not_onnx_is_not_quantised(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(AssetError, match=r"broken\.onnx cannot be quantised"):
        quantise(tmp_path / "broken.onnx", tmp_path / "out.onnx", [], static=True)
    assert not (tmp_path / "out.onnx").exists()


def test_a_network_that_loses_more_than_a_point_goes_back(
    tmp_path: Path, system: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"before": 0.8, "after": 0.78}
    row = {"expert": "face", "dataset": "ferplus", "n": 900, "accuracy": dict(scores), "macro_f1": dict(scores)}
    monkeypatch.setattr(convert.parity, "held_out", lambda *_: [row])
    facts = quick("shipped", "onnx-int8", tmp_path / "out", clip, data=tmp_path, experts={"face": "face"})
    assert facts["networks"]["face"]["precision"] == "as trained"
    assert weights.sha256_of(tmp_path / "out/face/face.onnx") == weights.sha256_of(system / "face/face.onnx")
    assert facts["held_out"][0]["accuracy"] == {"before": 0.8, "after": 0.8}
    assert any("loses 2.0 points of accuracy, more than 1" in note for note in facts["notes"])


@pytest.mark.parametrize(
    ("n", "after", "too_much"), [(1000, 0.79, False), (1000, 0.788, True), (40, 0.775, False), (40, 0.75, True)]
)
def test_a_point_may_be_lost_and_a_single_row(n: int, after: float, too_much: bool) -> None:
    scores = {"before": 0.8, "after": after}
    table = [
        {"expert": "face", "dataset": "ferplus", "n": n, "accuracy": scores, "macro_f1": {"before": 1, "after": 0}}
    ]
    assert convert._lost(table, "face") == pytest.approx((0.8 - after) * too_much)
    assert convert._lost(table, "voice") == 0
    marked = [{"expert": "text", "dataset": "brighter", "n": n, "macro_f1": scores}]
    assert convert._lost(marked, "text") == pytest.approx((0.8 - after) * too_much)


def test_networks_are_watched_and_left_as_they_were(clip: Path) -> None:
    expert = VoiceExpert()
    feeds = feeds_for(expert, clip)
    assert len(feeds) == len(synthetic.waveforms())
    np.testing.assert_array_equal(feeds[0]["waveform"][0], synthetic.waveforms()[0])
    with watched(expert) as (watch,):
        assert expert._session is watch
        expert.classify(np.zeros(16_000))
        assert watch.seconds > 0
    assert expert._session is not watch


def test_a_network_of_a_package_is_watched_only_while_it_is_asked_to_be(tmp_path: Path) -> None:
    expert = load_package(write_package(tmp_path / "voice", description(), {"model.onnx": loudness()}))
    sound = synthetic.speech(1.0, 140)
    for _ in range(2):
        with watched(expert) as (watch,):
            expert.classify(sound)
        expert.classify(sound)
        assert len(watch.feeds) == 1


def test_rows_are_spread_evenly() -> None:
    rows = Dataset("x", "text", EKMAN, list("abcdefghi"), np.arange(9) % 7, np.arange(9))
    assert evenly(rows, 3).inputs == ["a", "e", "i"]
    np.testing.assert_array_equal(evenly(rows, 3).groups, [0, 4, 8])
    assert evenly(rows, None) is rows
    assert evenly(rows, 9) is rows
    marked = replace(rows, marks=np.arange(54).reshape(9, 6), columns={"language": list("ABCDEFGHI")})
    np.testing.assert_array_equal(evenly(marked, 3).marks, marked.marks[[0, 4, 8]])
    assert evenly(marked, 3).columns == {"language": ["A", "E", "I"]}


def test_rows_that_show_several_emotions_are_measured_by_f1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = np.array([[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]])
    rows = Dataset("brighter", "text", EKMAN, ["I am so happy!", "How sad."], np.array([3, 4]), np.arange(2))
    rows = replace(rows, marks=marks, columns={"language": ["eng", "eng"]})
    monkeypatch.setattr(parity, "datasets_for", lambda *_: [rows])
    found = parity.held_out(load_experts({"text": "text"}), {}, set(), tmp_path, None)
    (row,) = found
    assert set(row) == {"expert", "dataset", "n", "macro_f1"}
    assert 0 <= row["macro_f1"]["before"] == row["macro_f1"]["after"] <= 1
    told = parity.markdown({"networks": {}, "fixed_inputs": {}, "held_out": found, "analysis": {}, "notes": []})
    f1 = f"{row['macro_f1']['before']:.4f}"
    assert f"| text: brighter | 2 | – | – | {f1} | {f1} |" in told


@pytest.mark.data
def test_int8_keeps_its_accuracy_on_held_out_rows(data: Path, tmp_path: Path, clip: Path) -> None:
    facts = quick("shipped", "onnx-int8", tmp_path / "out", clip, data=data, rows=40, experts={"face": "face"})
    assert [(row["dataset"], row["n"]) for row in facts["held_out"]] == [("ferplus", 40), ("ferplus_majority", 40)]
    for row in facts["held_out"]:
        assert row["accuracy"]["before"] >= 0.7
        assert row["accuracy"]["after"] >= row["accuracy"]["before"] - 1 / 40
    assert any("calibrated on 128 rows of training data" in note for note in facts["notes"])


# --- TensorRT and other providers ------------------------------------------------------------------------------------


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """What is chosen for a network where ONNX Runtime offers these providers."""
    import onnxruntime

    monkeypatch.setenv("AFFUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AFFUSE_PROVIDERS", raising=False)
    model = tmp_path / "model.onnx"
    model.write_bytes(b"some network")

    def choose(*names: str) -> list[str]:
        theirs = [weights.PROVIDERS[name] for name in names]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*theirs, "AzureExecutionProvider"])
        return [p if isinstance(p, str) else p[0] for p in weights.providers(model)]

    return choose


def test_the_best_provider_is_chosen(offered: Callable[..., list[str]], tmp_path: Path) -> None:
    tensorrt, cuda, openvino, cpu = weights.PROVIDERS.values()
    assert offered("cpu") == [cpu]
    assert offered("openvino", "cpu") == [openvino, cpu]
    assert offered("cuda", "openvino", "cpu") == [cuda, openvino, cpu]
    assert offered("tensorrt", "cuda", "cpu") == [cuda, cpu]  # no engine was built yet
    folder = weights.engines(tmp_path / "model.onnx")
    folder.mkdir(parents=True)
    assert offered("tensorrt", "cuda", "cpu") == [tensorrt, cuda, cpu]
    assert weights.providers(tmp_path / "model.onnx")[0][1] == {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
    }


def test_the_provider_may_be_named(offered: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    tensorrt, _, _, cpu = weights.PROVIDERS.values()
    monkeypatch.setenv("AFFUSE_PROVIDERS", "CPU")
    assert offered("tensorrt", "cuda", "cpu") == [cpu]
    monkeypatch.setenv("AFFUSE_PROVIDERS", "tensorrt")
    assert offered("tensorrt", "cuda", "cpu") == [tensorrt, cpu]
    with pytest.raises(ConfigError, match="AFFUSE_PROVIDERS asks for tensorrt, which this ONNX Runtime does not have"):
        offered("cuda", "cpu")
    monkeypatch.setenv("AFFUSE_PROVIDERS", "gpu")
    with pytest.raises(ConfigError, match=r"asks for gpu, .*; it has cuda, cpu"):
        offered("cuda", "cpu")


def test_tensorrt_says_where_it_is_not(tmp_path: Path, affuse: Run) -> None:
    import onnxruntime

    if weights.PROVIDERS["tensorrt"] in onnxruntime.get_available_providers():
        pytest.skip("TensorRT is here")
    result = affuse("export", "shipped", "--to", "tensorrt", "--out", tmp_path / "out")
    assert result.code == 2
    assert "TensorRT is not here (this ONNX Runtime has cpu); export on a machine with an NVIDIA GPU" in result.err
    assert not (tmp_path / "out").exists()


# --- commands --------------------------------------------------------------------------------------------------------


def test_analyze_uses_a_bundle(small: Path, clip: Path, affuse: Run) -> None:
    result = affuse("analyze", clip, "--package", small, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)["settings"]["experts"]
    assert told["voice"]["weights"]["voice"] == weights.sha256_of(small / "voice" / "voice.onnx")


@pytest.mark.data
def test_evaluate_measures_a_bundle(small: Path, affuse: Run, data: Path) -> None:
    result = affuse("evaluate", "--package", small, "--dataset", "emodb", "--data", data, "--json")
    assert json.loads(result.out)["n"] == 107


def test_a_bundle_serves_live_streams(small: Path) -> None:
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    from affuse.service.stream import LiveExperts

    experts = LiveExperts(str(small))
    analyzer = experts.analyzer("en")
    found = analyzer.experts["face"].sha256["face"]  # type: ignore[attr-defined]
    assert found == weights.sha256_of(small / "face" / "face.onnx")


def test_a_bundle_without_a_modality_follows_no_live_stream(tmp_path: Path, clip: Path) -> None:
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    from affuse.service.stream import LiveExperts

    quick("shipped", "onnx", tmp_path / "out", clip, experts={"text": "text"})
    with pytest.raises(ConfigError, match="no expert for face and voice that could follow a live stream"):
        LiveExperts(str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export", "shipped"], "where shall it go?"),
        (["export", "nothing", "--out", "x"], "neither 'shipped' nor the folder of a package"),
        (["export", "--to", "coreml", "--out", "x"], "unknown target 'coreml'; known: onnx, onnx-int8, tensorrt"),
        (["export", "--transcript", "a.srt", "--out", "x"], "--transcript holds the words of --clip"),
        (["analyze", "a.mp4", "--package", "x", "--experts", "voice"], "give either --package or --experts"),
        (["analyze", "a.mp4", "--package", "nowhere"], "nowhere is no package"),
        (["evaluate", "--dataset", "emodb", "--data", "x"], "x is not a folder"),
        (["bench", "--threads", "0"], "--threads takes whole numbers above 0"),
        (["bench", "--clip", "nowhere.mp4"], "nowhere.mp4 is not a file"),
        (["bench", "--package", "nowhere", "--threads", "1"], "nowhere is no package"),
    ],
)
def test_what_does_not_fit_is_told(
    arguments: list[str], sentence: str, affuse: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = affuse(*arguments)
    assert result.code == 2
    assert sentence in result.err
    assert not list(tmp_path.iterdir())


# --- measuring -------------------------------------------------------------------------------------------------------


def test_time_is_measured_in_milliseconds() -> None:
    import time

    figures = timed(lambda: time.sleep(0.01), 12)
    assert 10 <= figures["p50"] <= figures["p95"] <= figures["p99"] < 1000
    assert figures["cpu"] < 5  # who sleeps takes no time of the processor
    assert timed(lambda: time.sleep(0.01), 5, share=0.5)["p50"] >= 5


def test_a_benchmark_measures_every_stage(system: Path) -> None:
    figures = measure(Request(package=str(system), times=5, analyses=1))
    assert set(figures["stages"]) == {
        "decode",
        "detect",
        "face",
        "voice",
        "text (en)",
        "text (zh)",
        "who speaks",
        "fusion",
    }
    assert all(0 < row["p50"] <= row["p99"] for row in figures["stages"].values())
    assert figures["clip"] == {"name": "drawn.mp4", "seconds": pytest.approx(6, abs=0.3)}
    assert figures["times_real_time"] == pytest.approx(
        1000 * figures["clip"]["seconds"] / figures["analysis"]["p50"], 0.1
    )
    # A drawn mouth may be taken for somebody off screen who is heard, whose windows hold no face.
    assert figures["heard"]["voice"] >= figures["heard"]["face"] > 0
    assert 50 < figures["peak_mb"] < 2000


def test_the_drawn_face_is_found_and_its_speech_is_heard() -> None:
    (box,) = HaarDetector().detect(synthetic.drawn_face()).boxes
    assert abs(box[0] + box[2] / 2 - 240) < 20  # in the middle
    assert why_not(synthetic.speech(3.0, 140)) == ""


def test_the_drawn_clip_has_pictures_and_sound(clip: Path) -> None:
    recording = Recording.open(clip)
    assert recording.has_frames
    assert recording.has_sound
    assert recording.duration == pytest.approx(3.0, abs=0.2)
