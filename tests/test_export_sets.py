"""A system is exported from either set of weights, says which, and answers as that set wherever it is used."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from affuse import Analyzer, weight_sets, weights
from affuse.data.corpora import Dataset
from affuse.errors import AssetError
from affuse.experts import FaceExpert, TextExpert, VoiceExpert
from affuse.exporting import export, inference
from affuse.exporting.licences import allows, licences
from affuse.exporting.sources import ExportedSource, ShippedSource
from affuse.fusion import NamedFuser, ProductRule
from affuse.labels import EKMAN, VOICE
from affuse.packages import System, read_system
from affuse.packages.system import OwnWeights, Part, SystemDescription
from affuse.testing import synthetic, write_toy_package
from command import Run, caller

ASSETS = Path(weights.__file__).parent / "assets"
WORDS = """1
00:00:00,200 --> 00:00:01,200
I am so glad that you came!

2
00:00:01,400 --> 00:00:02,600
今天真的太生气了
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = synthetic.write_clip(tmp_path_factory.mktemp("clip") / "drawn.mp4", seconds=3.0)
    path.with_suffix(".srt").write_text(WORDS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    """The commercial set, exported while the research set is in use."""
    out = tmp_path_factory.mktemp("systems") / "commercial"
    export("shipped", out, clip=clip, times=1, weights="commercial")
    return out


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without any choice."""
    monkeypatch.delenv("AFFUSE_WEIGHTS", raising=False)
    monkeypatch.setenv("AFFUSE_CONFIG", str(tmp_path / "settings"))


@pytest.fixture
def affuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


def table(page: str) -> dict[str, list[str]]:
    """Cells of the rows of a licence page by their first."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| (?!part)", line)]
    return {row[0]: [cell.strip().strip("*") for cell in row] for row in rows}


# --- the folder -------------------------------------------------------------------------------------------------------


def test_it_names_its_set_and_holds_no_other(package: Path) -> None:
    told = json.loads((package / "bundle.json").read_text(encoding="utf-8"))
    assert told["weights"] == "commercial"
    assert {name for name in told["files"] if name.endswith((".onnx", ".bin", ".npz"))} == {
        "face/face_commercial.onnx",
        "voice/voice_commercial.onnx",
        "voice/voice_base.bin",
        "text/text_commercial.onnx",
        "text/text_base.bin",
        "fuser/arrays.npz",
    }
    assert {"text/text_commercial.md", "text/text_base.md", "voice/voice_base.md"} <= set(told["files"]), "their cards"
    assert weights.set_of(list(told["files"].values())) == "commercial"
    assert json.loads((package / "parity.json").read_text(encoding="utf-8"))["weights"] == "commercial"


def test_its_page_of_licences_lists_what_is_inside(package: Path) -> None:
    page = (package / "LICENCES.md").read_text(encoding="utf-8")
    inside = {*(f"{m}_commercial" for m in ("face", "voice", "text", "fuser")), "text_base", "voice_base"}
    assert set(table(page)) == {*inside, "affuse, the code that runs the weights"}
    assert "**Commercial use of this folder: yes.**" in page
    assert "in this folder: the commercial set" in page
    assert "CC BY asks that its sources are named" in page


@pytest.mark.parametrize("chosen", weight_sets.SETS)
def test_pages_agree_with_the_list_of_all_weights_word_by_word(chosen: str, affuse: Run) -> None:
    listed = {one["name"]: one for one in json.loads(affuse("models", "licences", "--json").out)["weights"]}
    rows = table(licences(ShippedSource(None, None, chosen).parts()))
    rows.pop("affuse, the code that runs the weights")
    assert len(rows) == {"research": 8, "commercial": 6}[chosen]
    for name, cells in rows.items():
        own = listed[name]
        assert cells == [name, own["version"], own["licence"], own["commercial"], "; ".join(own["data"])]
        assert chosen in own["sets"]


def test_the_research_set_is_said_to_be_for_research() -> None:
    page = licences(ShippedSource({"face": "face"}, None, "research").parts(), "research")
    assert "**Commercial use of this folder: no.** These exclude it: face." in page
    assert "affuse export --weights commercial" in page
    assert set(table(page)) == {"affuse, the code that runs the weights", "face", "fuser"}


# --- the answers ------------------------------------------------------------------------------------------------------


def test_it_answers_as_its_set_while_the_other_is_in_use(package: Path, clip: Path) -> None:
    assert weight_sets.in_use() == "research"
    words = clip.with_suffix(".srt")
    exported = Analyzer.from_package(package).analyze(clip, words).to_dict()
    shipped = Analyzer(weights="commercial").analyze(clip, words).to_dict()
    assert exported == shipped, "which computes with the same bytes"
    assert exported["settings"]["weights"] == "commercial"
    assert {cue["language"] for cue in exported["cues"]} == {"en", "zh"}
    heard = {m for window in exported["windows"] for m, e in window["evidence"].items() if e["probabilities"]}
    assert heard == {"face", "voice", "text"}


def test_in_int8_it_still_is_of_its_set(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "int8"
    facts = export(
        "shipped", out, "onnx-int8", clip=clip, times=1, weights="commercial", experts={"face": "face"},
        fuser=own_fuser(tmp_path / "fuser", "face"),
    )  # fmt: skip
    assert facts["networks"]["face_commercial"]["precision"] == "INT8, static, per channel"
    assert 0 < facts["fixed_inputs"]["face"]["max_difference"] < 0.1
    system = read_system(out)
    assert weights.set_of(list(system.description.files.values())) is None, "no checksum tells"
    assert system.description.weight_set == "commercial"
    answered = Analyzer.from_package(out).analyze(clip)
    assert answered.settings["weights"] == "commercial"
    whole = Analyzer({"face": FaceExpert(weight_set="commercial")}, fuser=system.fuser).analyze(clip)
    for ours, theirs in zip(answered.verdicts, whole.verdicts, strict=True):
        np.testing.assert_allclose(ours.fused, theirs.fused, atol=0.05)


def own_fuser(folder: Path, *modalities: str) -> Path:
    rng = np.random.default_rng(0)
    P, y = rng.dirichlet(np.ones(7), size=(70, len(modalities))), np.arange(70) % 7
    NamedFuser(ProductRule().fit(P, y), modalities, EKMAN.labels, "product").write(folder)
    return folder


def test_commercial_weights_are_not_calibrated_on_data_for_research(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(name: str) -> Dataset:
        return Dataset(name, "voice", VOICE, [np.zeros(16_000)], np.array([0]), np.array(["a"]))

    monkeypatch.setattr(inference, "datasets_for", lambda *_: [rows("ravdess"), rows("javanese_speech")])
    used = {own: inference.training_sets(VoiceExpert(weight_set=own), ASSETS) for own in weight_sets.SETS}
    assert {own: [each.name for each in sets] for own, sets in used.items()} == {
        "research": ["ravdess", "javanese_speech"],
        "commercial": ["javanese_speech"],
    }


def test_evaluations_of_a_package_are_those_of_its_set(package: Path, tmp_path: Path, affuse: Run) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\nI am so happy!,happiness\nHow dare you!,anger\n今天真难过,sadness\n", encoding="utf-8")
    common = ["evaluate", "--manifest", rows, "--json"]
    found = [affuse(*common, *more) for more in (["--package", package], ["--weights", "commercial"])]
    assert [each.code for each in found] == [0, 0]
    ours, theirs = (json.loads(each.out) for each in found)
    assert ours["as_answered"] == theirs["as_answered"]
    assert ours["settings"]["weights"] == "commercial"


def test_words_of_a_research_system_stay_so_while_the_commercial_set_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("text_en", "text_multi", "text_zh")
    system = System(ASSETS, SystemDescription("onnx", {"text": {n: own(n) for n in names}}, weight_set="research"))
    monkeypatch.setenv("AFFUSE_WEIGHTS", "commercial")
    expert = system.experts("en")["text"]
    assert set(expert.sha256) == set(names)
    text = "I am so happy about it!"
    np.testing.assert_array_equal(expert.classify([text]), TextExpert("en", weight_set="research").classify([text]))


def own(name: str) -> OwnWeights:
    entry = weights.manifest()[name]
    return OwnWeights(entry.file, entry.version, entry.licence, "as trained")


def test_a_service_says_the_set_of_its_package(package: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    from fastapi.testclient import TestClient

    from affuse.service import Settings
    from affuse.service.app import create_app

    own = Settings(tmp_path / "jobs", allowed_hosts=("testserver",), package=str(package))
    models = TestClient(create_app(own)).get("/v1/models").json()
    assert models["weight_set"] == "commercial"
    assert [each["name"] for each in models["weights"]] == ["face_commercial", "text_commercial", "voice_commercial"]


# --- exported again, mixed, of others ---------------------------------------------------------------------------------


def test_exported_again_it_keeps_its_licences(package: Path) -> None:
    again = ExportedSource(read_system(package), None).parts()
    assert again == ShippedSource(None, None, "commercial").parts()


def test_a_fuser_of_ones_own_has_a_licence_of_ones_own(package: Path, tmp_path: Path) -> None:
    own = own_fuser(tmp_path / "own", "face", "voice", "text")
    for source in (ShippedSource(None, own, "commercial"), ExportedSource(read_system(package), own)):
        page = licences(source.parts())
        assert "**Commercial use of this folder: not stated.** Ask whoever made them: fuser." in page
        assert table(page)["fuser"][2:4] == ["not stated", "not stated"]


def test_experts_with_the_fuser_of_another_set_are_mixed(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = weights.shipped("fuser", of_set="research").parent
    monkeypatch.setenv("AFFUSE_WEIGHTS", "commercial")  # whose experts are exported where nothing else is asked for
    export("shipped", tmp_path / "mixed", clip=clip, times=1, experts={"face": "face"}, fuser=other)
    described = read_system(tmp_path / "mixed").description
    assert described.weight_set == "mixed"
    assert [part.name for part in described.parts] == ["face_commercial", "fuser"]
    assert Analyzer.from_package(tmp_path / "mixed").weights == "mixed"


def test_a_system_of_an_earlier_version_is_of_the_research_set() -> None:
    files = {"face.onnx": "0" * 64, "fuser/fuser.json": "0" * 64}
    told = json.loads(SystemDescription("onnx", {"face": {"face": own("face")}}, {}, files, "research").to_json())
    del told["weights"], told["licences"]
    described = SystemDescription.from_json(json.dumps(told))
    assert described.weight_set == "research"
    parts = ExportedSource(System(ASSETS, described), None).parts()
    assert [(part.name, part.commercial) for part in parts] == [("face", "no"), ("fuser", "yes")]


def test_packages_of_others_are_listed_by_what_they_state(tmp_path: Path) -> None:
    mine = write_toy_package(tmp_path / "mine")
    parts = ShippedSource({"voice": str(mine), "face": "face"}, None, "commercial").parts()
    assert [part.name for part in parts] == ["face_commercial", parts[1].name, "fuser_commercial"]
    assert parts[1].name.startswith("voice (")
    assert parts[1].commercial == allows(parts[1].licence)


@pytest.mark.parametrize(
    ("licence", "answer"),
    [
        ("CC BY 4.0", "yes"),
        ("MIT", "yes"),
        ("CC BY-NC-SA 4.0", "no"),
        ("MIT; pictures for research use", "no"),
        ("non-commercial", "no"),
        ("not stated", ""),
        ("ask us", ""),
    ],
)
def test_a_licence_allows_what_it_says(licence: str, answer: str) -> None:
    assert allows(licence) == answer
    page = licences([Part("mine", licence, "", answer)])
    assert f"**Commercial use of this folder: {answer or 'not stated'}.**" in page


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["export", "--out", "x", "--weights", "free"], "unknown set of weights 'free'; known: research, commercial"),
        (["export", "PACKAGE", "--out", "x", "--weights", "commercial"], "a package brings its own weights; leave out"),
        (["analyze", "--text", "a", "--package", "PACKAGE", "--weights", "research"], "a package brings its own"),
    ],
)
def test_what_does_not_fit_is_told(
    arguments: list[str], sentence: str, package: Path, affuse: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = affuse(*(str(package) if each == "PACKAGE" else each for each in arguments))
    assert said.code == 2
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ("research", "the weights of face are of the commercial set, and the system is not"),
        (None, "the weights of face are of the commercial set"),
        ("free", "unknown set of weights 'free'"),
    ],
)
def test_a_system_that_says_otherwise_is_refused(
    package: Path, tmp_path: Path, told: str | None, sentence: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    fields = json.loads((package / "bundle.json").read_text(encoding="utf-8"))
    (other / "bundle.json").write_text(json.dumps(fields | {"weights": told}), encoding="utf-8")
    with pytest.raises(AssetError, match=sentence):
        read_system(other)


def test_a_changed_byte_in_what_its_networks_share_is_found(package: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(package, tmp_path / "copy")
    content = bytearray((copy / "voice" / "voice_base.bin").read_bytes())
    content[1000] ^= 1
    (copy / "voice" / "voice_base.bin").write_bytes(content)
    with pytest.raises(AssetError, match=r"voice_base\.bin has the wrong checksum"):
        Analyzer.from_package(copy)
