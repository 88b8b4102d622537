"""The command line from outside: what it prints, what it writes, and one clear sentence for every kind of bad input."""

import hashlib
import json
import os
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from affuse.data.corpora import Dataset, load
from affuse.evaluation import evaluate
from affuse.report.schema import schema
from command import Result, Run, caller

DATA = os.environ.get("AFFUSE_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="AFFUSE_DATA does not name the folder of the corpora")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        t = np.arange(4 * 16_000) / 16_000
        file.writeframes((8000 * np.sin(2 * np.pi * 220 * t)).astype("<i2").tobytes())
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Four seconds of noise in H.264, without sound and without anybody in it."""
    path = tmp_path / "noise.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(40):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def test_text_is_answered_and_json_keeps_the_schema(run: Run) -> None:
    result = run("analyze", "--text", "I am so happy, thank you!", "--json")
    assert result.code == 0
    document = json.loads(result.out)
    Draft202012Validator(schema()).validate(document)
    assert document["source"]["sha256"] is None
    assert document["summary"][0]["label"] == "happiness"
    assert document["summary"][0]["evidence"]["face"]["probabilities"] is None


def test_chinese_text_is_answered(run: Run) -> None:
    document = json.loads(run("analyze", "--text", "太难过了，眼泪止不住", "--json").out)
    assert document["cues"][0]["language"] == "zh"
    assert document["summary"][0]["sentiment"] < 0


def test_table_is_plain_when_piped(run: Run) -> None:
    result = run("analyze", "--text", "This is disgusting.")
    assert result.code == 0
    assert "\x1b" not in result.out
    assert "disgust" in result.out
    assert result.err == ""


def test_results_are_four_files_that_agree(run: Run, tone: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert run("analyze", tone, "--out", out).code == 0
    assert sorted(p.name for p in out.iterdir()) == ["tone.csv", "tone.html", "tone.json", "tone.parquet"]
    document = json.loads((out / "tone.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema()).validate(document)
    assert document["source"]["sha256"] == hashlib.sha256(tone.read_bytes()).hexdigest()
    table, columns = pd.read_csv(out / "tone.csv"), pd.read_parquet(out / "tone.parquet")
    assert table["start"].tolist() == columns["start"].tolist() == [w["start"] for w in document["windows"]]
    assert "<html" in (out / "tone.html").read_text(encoding="utf-8")[:500].lower()


def test_the_same_recording_twice_gives_the_same_json(run: Run, tone: Path) -> None:
    assert run("analyze", tone, "--json").out == run("analyze", tone, "--json").out


def test_nobody_and_no_sound_is_an_answer_with_reasons(run: Run, clip: Path) -> None:
    document = json.loads(run("analyze", clip, "--json").out)
    evidence = document["summary"][0]["evidence"]
    assert document["summary"][0]["label"] is None
    assert all(evidence[m]["reason"] for m in ("face", "voice", "text"))


def test_picture_without_a_face_is_answered(run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (200, 150), (40, 90, 40)).save(tmp_path / "green.png")
    document = json.loads(run("analyze", tmp_path / "green.png", "--json").out)
    assert document["source"]["kind"] == "picture"
    assert document["persons"] == []
    assert document["windows"][0]["evidence"]["face"]["reason"]


def test_only_the_chosen_experts_are_asked(run: Run, tone: Path) -> None:
    document = json.loads(run("analyze", tone, "--experts", "voice", "--json").out)
    assert document["modalities"] == ["voice"]


def test_folder_reports_its_bad_files_at_the_end(run: Run, tone: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video", encoding="utf-8")
    (tmp_path / "tone.srt").write_text("1\n00:00:00,500 --> 00:00:02,000\nI am afraid.\n", encoding="utf-8")
    out = tmp_path / "out"
    result = run("analyze", tmp_path, "--out", out)
    assert result.code == 2
    assert "1 of 2 files could not be analysed" in result.err
    assert "broken.mp4" in result.err
    document = json.loads((out / "tone.json").read_text(encoding="utf-8"))
    assert document["cues"][0]["text"] == "I am afraid."


def bad(name: str, content: bytes | None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        if content is not None:
            path.write_bytes(content)
        return path

    return make


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (bad("missing.mp4", None), "does not exist"),
        (bad("empty.mp4", b""), "empty"),
        (bad("words.mp4", b"these are words, not pictures\n" * 50), "words.mp4"),
        (bad("garbage.wav", bytes(range(256)) * 40), "garbage.wav"),
        (bad("half.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40), "half.png"),
    ],
)
def test_bad_recordings_get_one_sentence(run: Run, tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    result = run("analyze", make(tmp_path), "--out", tmp_path / "out")
    assert_one_sentence(result, says)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def assert_one_sentence(result: Result, says: str) -> None:
    assert result.code == 2, result
    assert result.err.startswith("affuse: ")
    assert says in result.err
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    assert result.out == ""


def test_a_name_that_the_system_does_not_take_gets_one_sentence(run: Run, tmp_path: Path) -> None:
    result = run("analyze", tmp_path / f"{'x' * 300}.mp4")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"affuse: {tmp_path}/{'x' * 300}.mp4: file name too long\n"


def test_folder_without_recordings(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    assert_one_sentence(run("analyze", tmp_path), "holds no recordings")


def test_truncated_and_damaged_video_never_shows_a_traceback(run: Run, clip: Path, tmp_path: Path) -> None:
    whole = clip.read_bytes()
    for name, content in {
        "cut.mp4": whole[: len(whole) // 2],
        "hole.mp4": whole[:4000] + b"\0" * 3000 + whole[7000:],
        "head.mp4": whole[:20],
    }.items():
        (tmp_path / name).write_bytes(content)
        result = run("analyze", tmp_path / name)
        assert result.code in (0, 2)
        assert "Traceback" not in result.err
        if result.code:
            assert_one_sentence(result, name)


def test_transcript_that_does_not_parse_names_file_and_line(run: Run, tone: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nFine.\n\n2\n00:00:xx --> 00:00:03,000\nBad.\n", encoding="utf-8")
    result = run("analyze", tone, "--transcript", path)
    assert_one_sentence(result, "bad.srt")
    assert "line 6" in result.err


def test_transcript_longer_than_the_recording(run: Run, tone: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.srt"
    path.write_text("1\n00:00:00,000 --> 00:01:15,000\nToo long.\n", encoding="utf-8")
    assert_one_sentence(run("analyze", tone, "--transcript", path), "75.0 s")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--window", "30"], "longer than the recording"),
        (["--window", "0"], "between 0.1 and 3600"),
        (["--hop", "9"], "gaps"),
        (["--experts", "nose"], "unknown modality 'nose'"),
        (["--experts", "voice=nobody"], "unknown expert 'nobody'"),
        (["--language", "fr"], "unknown language 'fr'"),
        (["--transcript", "missing.srt"], "missing.srt"),
    ],
)
def test_bad_options_get_one_sentence(run: Run, tone: Path, options: list[str], says: str) -> None:
    assert_one_sentence(run("analyze", tone, *options), says)


@pytest.mark.parametrize("command", [["evaluate"], ["adapt", "--out", "my.fuser"]])
def test_windows_are_checked_by_every_command(run: Run, tone: Path, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "clips.csv").write_text(f"path,label\n{tone},anger\n", encoding="utf-8")
    asked = [*command, "--manifest", tmp_path / "clips.csv", "--experts", "voice"]
    assert_one_sentence(run(*asked, "--window", "0"), "--window must lie between 0.1 and 3600")
    assert_one_sentence(run(*asked, "--hop", "9"), "--hop 9 would leave gaps")


def test_neither_and_both_sources(run: Run, tone: Path) -> None:
    assert_one_sentence(run("analyze"), "either recordings or --text")
    assert_one_sentence(run("analyze", tone, "--text", "x"), "either recordings or --text")
    assert_one_sentence(run("analyze", "--text", " "), "empty")


def test_output_that_cannot_be_written(run: Run, tone: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("mine", encoding="utf-8")
    assert_one_sentence(run("analyze", tone, "--out", blocked), "file")
    assert blocked.read_text(encoding="utf-8") == "mine"


def test_report_over_the_recording_itself_is_refused(run: Run, tone: Path) -> None:
    before = tone.read_bytes()
    assert_one_sentence(run("analyze", tone, "--report", tone), "tone.wav")
    assert tone.read_bytes() == before


def test_wrong_checksum_of_optional_weights(
    run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "yunet_n_640_640.onnx").write_bytes(b"not the weights")
    monkeypatch.setenv("AFFUSE_MODELS", str(tmp_path / "models"))
    assert_one_sentence(run("analyze", clip), "wrong checksum")


def test_models_are_listed_verified_and_licensed(run: Run) -> None:
    assert "face" in run("models", "list").out
    verified = run("models", "verify")
    assert verified.code == 0
    assert "text_zh: right" in verified.out
    assert "voice 5" in run("models", "licences").out


@pytest.mark.parametrize("arguments", ["schema", "--help", "models list"])
def test_broken_pipe_is_silent(arguments: str) -> None:
    command = f"{sys.executable} -m affuse.cli {arguments} | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert len(done.stdout) == 10


def test_a_reader_that_is_gone_stops_a_command_silently() -> None:
    command = f"{{ {sys.executable} -m affuse.cli models licences; echo $? >&2; }} | true"
    assert subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False).stderr == "1\n"


@pytest.mark.parametrize("arguments", [["--help"], ["analyze", "--help"], ["evaluate", "--help"], ["--version"]])
def test_help_and_version(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code == 0
    assert "affuse" in result.out


def test_evaluate_names_what_does_not_fit(run: Run, tmp_path: Path) -> None:
    assert_one_sentence(
        run("evaluate", "--expert", "voice", "--dataset", "nothing", "--data", tmp_path),
        "known: brighter, brighter_chn, chnsenticorp",
    )
    (tmp_path / "test.tsv").write_text("good\t1\n", encoding="utf-8")
    arguments = ["--expert", "voice", "--dataset", "sst2", "--data", tmp_path, "--split", "test"]
    assert_one_sentence(run("evaluate", *arguments), "reads voice")


def test_evaluate_on_a_made_up_set(run: Run, tmp_path: Path) -> None:
    rows = "what a wonderful , moving film\t1\na dull and stupid mess\t0\n"
    (tmp_path / "test.tsv").write_text(rows, encoding="utf-8")
    result = run("evaluate", "--expert", "text", "--dataset", "sst2", "--data", tmp_path, "--split", "test", "--json")
    report = json.loads(result.out)
    assert set(report) == {"n", "accuracy", "uar", "macro_f1", "weighted_f1", "ece", "labels", "confusion"}
    assert report["n"] == 2
    assert report["accuracy"] == 1.0


@needs_data
@pytest.mark.parametrize(
    ("expert", "dataset", "every", "measure", "bar"),
    [
        ("face", "ferplus_majority", 6, "accuracy", 0.85),
        ("voice", "ravdess", 3, "accuracy", 0.64),
        ("voice", "emodb", 1, "accuracy", 0.78),
        ("text", "goemotions", 8, "macro_f1", 0.61),
        ("text", "sst2", 3, "accuracy", 0.90),
        ("text", "meld", 2, "weighted_f1", 0.57),
        ("text", "smp2020_ewect", 4, "macro_f1", 0.615),
        ("text", "chnsenticorp", 4, "accuracy", 0.92),
    ],
)
def test_shipped_experts_reach_their_bars(expert: str, dataset: str, every: int, measure: str, bar: float) -> None:
    """On every n-th row of the dev split, by the call that ``affuse evaluate --expert`` makes; all rows read better."""
    rows = load(dataset, str(DATA), "dev")
    some = Dataset(
        name=rows.name,
        modality=rows.modality,
        labels=rows.labels,
        inputs=rows.inputs[::every],
        targets=rows.targets[::every],
        groups=rows.groups[::every],
        language=rows.language,
    )
    assert evaluate(some, expert=expert).report[measure] >= bar


def test_any_fitted_fuser_of_emotions_serves(run: Run, tmp_path: Path) -> None:
    """What affuse fuse --save kept from people's own tables answers in affuse analyze, under the prior asked for."""
    rng = np.random.default_rng(0)
    labels = ["angry", "happy", "sad", "calm"]
    y = np.arange(80) % 4
    for name in ("voice", "text"):
        P = rng.dirichlet(np.ones(4), size=80) / 2 + np.eye(4)[y] / 2
        table = pd.DataFrame(P, columns=labels)
        table.insert(0, "id", np.arange(80))
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    pd.DataFrame({"id": np.arange(80), "label": np.array(labels)[y]}).to_csv(tmp_path / "y.csv", index=False)
    files = [tmp_path / "voice.csv", tmp_path / "text.csv"]
    saved = run("fuse", *files, "--labels", tmp_path / "y.csv", "--method", "log_pool", "--save", tmp_path / "own")
    assert saved.code == 0, saved.err
    result = run("analyze", "--text", "I am so happy, thank you!", "--fuser", tmp_path / "own", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    Draft202012Validator(schema()).validate(document)
    assert document["modalities"] == ["voice", "text"], "the shipped experts that the fuser knows"
    assert document["settings"]["fuser"]["name"] == "log_pool"
    (summary,) = document["summary"]
    assert summary["label"] == "happiness"
    assert summary["fused"]["disgust"] == 0, "a label that the fuser lacks is never answered"
    shares = summary["prior"] + summary["evidence"]["text"]["share"]
    assert 1 / (1 + np.exp(-shares)) == pytest.approx(summary["confidence"], abs=2e-6)
    sure = run("analyze", "--text", "Well.", "--fuser", tmp_path / "own", "--prior", "dialogue", "--json")
    assert json.loads(sure.out)["settings"]["prior"]["name"] == "dialogue"
    wrong = run("analyze", "--text", "Well.", "--fuser", tmp_path / "own", "--experts", "face")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "the fuser knows voice, text; got face" in wrong.err


def test_the_prior_is_chosen_and_told(run: Run, tmp_path: Path) -> None:
    told = {}
    for prior in ("dialogue", "uniform", "tempered"):
        document = json.loads(run("analyze", "--text", "I am sad about it.", "--prior", prior, "--json").out)
        assert document["settings"]["prior"]["name"] == prior
        told[prior] = document["summary"][0]["fused"]["neutral"]
    assert told["dialogue"] > told["tempered"] > told["uniform"]
    (tmp_path / "mine.toml").write_text("[lexicon]\nfizz = { happiness = 3.0 }\n", encoding="utf-8")
    plain, fizzy = (
        json.loads(run("analyze", "--text", text, "--prior", tmp_path / "mine.toml", "--json").out)["summary"][0]
        for text in ("It is on the table.", "It is on the fizz table.")
    )
    assert fizzy["fused"]["happiness"] > 2 * plain["fused"]["happiness"]
    refused = run("analyze", "--text", "x", "--prior", "sunny")
    assert (refused.code, "neither a file nor one of dialogue, uniform, tempered" in refused.err) == (2, True)
    refused = run("analyze", "--text", "x", "--fuser", tmp_path)
    assert (refused.code, "holds no fuser" in refused.err) == (2, True)
