"""The research set of weights and the commercial one: which is in use, and that no other file is touched."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse import Analyzer, weight_sets, weights
from affuse.analyzer import load_experts, shipped_fuser
from affuse.errors import AssetError, ConfigError
from affuse.experts import FaceExpert, TextExpert, VoiceExpert
from affuse.testing import synthetic
from command import Run, caller

ASSETS = Path(weights.__file__).parent / "assets"


def in_set(name: str) -> dict[str, weights.Shipped]:
    own = {terms.name for terms in weights.licences() if name in terms.sets}
    return {name: entry for name, entry in weights.manifest().items() if name in own}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any choice."""
    monkeypatch.delenv("AFFUSE_WEIGHTS", raising=False)
    monkeypatch.setenv("AFFUSE_CONFIG", str(tmp_path / "settings"))
    return tmp_path / "settings" / "weights.json"


# --- the choice -------------------------------------------------------------------------------------------------------


def test_the_choice_persists_and_shows(run: Run, settings: Path) -> None:
    assert weight_sets.in_use() == "research"
    said = run("models", "use", "commercial")
    assert said.code == 0
    assert str(settings) in said.out
    assert json.loads(settings.read_text()) == {"weights": "commercial"}
    assert weight_sets.in_use() == "commercial"
    facts = json.loads(run("models", "licences", "--json").out)
    assert facts["in_use"] == "commercial"
    assert {one["name"] for one in facts["weights"] if one["in_use"] and one["kind"] == "shipped"} == {
        *in_set("commercial")
    }
    assert "in use: the commercial set" in run("models", "licences").out
    run("models", "use", "research")
    assert weight_sets.in_use() == "research"


def test_arguments_come_before_the_variable_and_that_before_the_choice(
    run: Run, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight_sets.use("commercial")
    monkeypatch.setenv("AFFUSE_WEIGHTS", "research")
    assert weight_sets.in_use() == "research"
    assert weight_sets.chosen_set("commercial") == "commercial"
    assert "AFFUSE_WEIGHTS says research" in run("models", "use", "commercial").err


@pytest.mark.parametrize("content", ["", "[]", '{"weights": "free"}', '{"set": "commercial"}'])
def test_a_damaged_choice_is_told_and_nobody_falls_back(run: Run, settings: Path, content: str) -> None:
    settings.parent.mkdir()
    settings.write_text(content)
    with pytest.raises(ConfigError, match=r"weights\.json"):
        weight_sets.in_use()
    said = run("analyze", "--text", "hello")
    assert said.code == 2
    assert "weights.json" in said.err
    assert "Traceback" not in said.err
    assert run("models", "use", "research").code == 0, "which repairs it"


def test_unknown_sets_are_refused(run: Run, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["models", "use", "free"], ["analyze", "--text", "hello", "--weights", "free"]):
        said = run(*arguments)
        assert said.code == 2
        assert "unknown set of weights 'free'; known: research, commercial" in said.err
    assert not settings.exists()
    monkeypatch.setenv("AFFUSE_WEIGHTS", "free")
    with pytest.raises(ConfigError, match="AFFUSE_WEIGHTS: unknown set"):
        weight_sets.in_use()


# --- what is in the sets ----------------------------------------------------------------------------------------------


def test_everything_in_the_commercial_set_may_be_used_so() -> None:
    own = in_set("commercial")
    assert {entry.part or name for name, entry in own.items()} >= {"voice", "text", "face", "fuser"}
    assert {entry.commercial for entry in own.values()} == {"yes"}
    licences = ("MIT", "Apache-2.0", "CC BY 4.0", "ODbL", "own")
    stated = [data for entry in own.values() for data in entry.data]
    assert [data for data in stated if not data.rstrip(")").endswith(licences)] == []
    beside = {other for entry in own.values() for other in entry.beside}
    assert beside <= set(own), "what they share with the research set belongs to both"


def test_all_shipped_files_take_80_mb_at_most() -> None:
    files = [path for path in ASSETS.rglob("*") if path.is_file() and path.suffix != ".md"]
    listed = {ASSETS / entry.file for entry in weights.manifest().values()}
    assert listed <= set(files)
    assert sum(path.stat().st_size for path in files) <= 80_000_000


@pytest.mark.parametrize("name", weight_sets.SETS)
def test_every_file_of_a_set_has_its_checksum(name: str) -> None:
    for each, entry in in_set(name).items():
        assert weights.sha256_of(weights.shipped(each, of_set=name)) == entry.sha256
        assert (ASSETS / entry.file).stat().st_size == entry.bytes


def test_weights_of_the_other_set_are_not_given(settings: Path) -> None:
    for name in set(in_set("research")) - set(in_set("commercial")) - {"voice", "face", "fuser"}:
        with pytest.raises(AssetError, match="the commercial set has no weights named"):
            weights.shipped(name, of_set="commercial")
    assert weights.shipped("voice", of_set="commercial") != weights.shipped("voice", of_set="research")


# --- what answers -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=weight_sets.SETS)
def chosen(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_both_sets_answer(chosen: str) -> None:
    face, voice, text = FaceExpert(weight_set=chosen), VoiceExpert(weight_set=chosen), TextExpert(weight_set=chosen)
    answers = [
        face.classify(synthetic.pictures()[:2]),
        voice.classify(synthetic.speech(seconds=2.0, pitch=140))[None],
        text.classify(["I am so happy about it!", "今天真的太开心了", "Ich habe solche Angst vor morgen"]),
    ]
    for P in answers:
        np.testing.assert_allclose(P.sum(axis=1), 1.0, atol=1e-4)
        assert (P >= 0).all()
    found = {expert: weights.set_of(list(expert.sha256.values())) for expert in (face, voice, text)}
    assert set(found.values()) == {chosen}
    assert shipped_fuser(chosen).sha256 == weights.digest("fuser", chosen)


def test_every_answer_names_the_set(chosen: str, settings: Path, run: Run) -> None:
    weight_sets.use(chosen)
    assert Analyzer().weights == chosen
    answer = json.loads(run("analyze", "--text", "I love it!", "--json").out)
    assert answer["settings"]["weights"] == chosen
    assert set(answer["settings"]["experts"]["text"]["weights"]) == (
        {"text_commercial"} if chosen == "commercial" else {"text_en", "text_zh", "text_multi"}
    )
    other = next(name for name in weight_sets.SETS if name != chosen)
    answer = json.loads(run("analyze", "--text", "I love it!", "--json", "--weights", other).out)
    assert answer["settings"]["weights"] == other


def test_sets_that_are_mixed_are_called_so() -> None:
    mixed = Analyzer(load_experts({"voice": "voice"}, weight_set="commercial"), fuser=shipped_fuser("research"))
    assert mixed.weights == "mixed"


def test_a_package_brings_its_own(run: Run, tmp_path: Path) -> None:
    said = run("analyze", "--text", "hello", "--package", str(tmp_path), "--weights", "commercial")
    assert said.code == 2
    assert "a package brings its own weights" in said.err


# --- what is opened ---------------------------------------------------------------------------------------------------


@pytest.fixture
def only_commercial(tmp_path: Path, settings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that lacks every file of the research set alone, in which the commercial set is chosen."""
    place = tmp_path / "assets"
    for entry in in_set("commercial").values():
        folder = (ASSETS / entry.file).parent
        (place / entry.file).parent.mkdir(parents=True, exist_ok=True)
        files = [ASSETS / entry.file] if folder == ASSETS else sorted(folder.iterdir())
        for file in files:
            shutil.copyfile(file, place / file.relative_to(ASSETS))
    shutil.copyfile(ASSETS / "manifest.json", place / "manifest.json")
    monkeypatch.setattr(weights, "_assets", lambda: place)
    weight_sets.use("commercial")
    return place


def test_no_file_of_research_is_opened(only_commercial: Path, tmp_path: Path) -> None:
    opened: set[str] = set()
    watching = [True]

    def hear(event: str, arguments: Any) -> None:
        if event == "open" and watching and isinstance(arguments[0], str | Path):
            opened.add(str(arguments[0]))

    clip = synthetic.write_clip(tmp_path / "clip.mp4")
    words = tmp_path / "clip.srt"
    words.write_text("1\n00:00:00,500 --> 00:00:02,000\nI am so glad that you came!\n", encoding="utf-8")
    sys.addaudithook(hear)  # nobody can take it away again
    try:
        # Everything else is missing in this installation, so that what libraries open by themselves counts, too.
        analysis = Analyzer().analyze(clip, words)
    finally:
        watching.clear()
    assert analysis.settings["weights"] == "commercial"
    ours = {str(Path(name).relative_to(only_commercial)) for name in opened if name.startswith(str(only_commercial))}
    assert not [name for name in opened if name.startswith(str(ASSETS))]
    allowed = {entry.file for entry in in_set("commercial").values()}
    assert {name for name in ours if name.endswith((".onnx", ".bin"))} <= allowed
    assert {"text_commercial.onnx", "voice_commercial.onnx"} <= ours


def test_a_changed_byte_in_what_networks_share_is_found(only_commercial: Path) -> None:
    path = only_commercial / weights.manifest()["text_base"].file
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(AssetError, match=r"text_base\.bin has the wrong checksum"):
        weights.shipped("text")


# --- service and measures ---------------------------------------------------------------------------------------------


def test_the_service_says_which_set_answers(tmp_path: Path, chosen: str) -> None:
    from fastapi.testclient import TestClient

    from affuse.service import Settings
    from affuse.service.app import create_app

    settings = Settings(tmp_path / "jobs", allowed_hosts=("testserver",), weights=chosen)
    models = TestClient(create_app(settings)).get("/v1/models").json()
    assert models["weight_set"] == chosen
    assert {each["name"] for each in models["weights"]} == set(in_set(chosen))


def test_evaluation_takes_the_set(tmp_path: Path, chosen: str) -> None:
    import affuse

    path = tmp_path / "clips.csv"
    path.write_text("text,label\nI am so happy!,happiness\nHow dare you!,anger\n")
    found = affuse.evaluate(path, weights=chosen, draws=10)
    assert found.to_dict()["n"] == 2
