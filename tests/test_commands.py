"""What all commands share: examples in the help, one vocabulary of flags, former names, completion in the shell."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.main import get_command

from affuse.analyzer import adaptation
from affuse.cli import completion
from affuse.cli.command import EXAMPLES, RENAMED, current_flags
from affuse.cli.main import app
from affuse.evaluation import comparison
from affuse.testing.tables import write_predictions
from command import Run, caller

ALL: Any = get_command(app)


def commands(group: Any = ALL, before: str = "") -> dict[str, Any]:
    """Every command by what is typed after ``affuse``."""
    found = {}
    for name, command in group.commands.items():
        own = f"{before} {name}".strip()
        found |= commands(command, own) if hasattr(command, "commands") else {own: command}
    return found


COMMANDS = commands()


def words(example: str) -> list[str]:
    """What an example hands to ``affuse``: without variables before it and a file that takes its output."""
    parts = shlex.split(example.partition(" > ")[0])
    return parts[parts.index("affuse") + 1 :]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


# --- examples ---------------------------------------------------------------------------------------------------------


def test_every_command_has_two_examples() -> None:
    assert set(EXAMPLES) == set(COMMANDS)
    for name, (first, second) in EXAMPLES.items():
        for example in (first, second):
            assert " ".join(words(example)).startswith(name), example


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_ends_with_its_examples(run: Run, name: str) -> None:
    result = run(*name.split(), "--help")
    assert result.code == 0
    last = [line.strip() for line in result.out.strip().splitlines()[-3:]]
    assert last == ["Examples:", *EXAMPLES[name]]


@pytest.mark.parametrize("example", [example for pair in EXAMPLES.values() for example in pair])
def test_an_example_is_a_command_that_is_understood(example: str) -> None:
    arguments = words(example)
    name = next(name for name in COMMANDS if arguments[: len(name.split())] == name.split())
    rest = arguments[len(name.split()) :]
    if "--help" not in rest:
        assert current_flags(name, rest) == rest, "an example uses the names of today"
        COMMANDS[name].make_context(name, rest)


def test_examples_of_fusing_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_predictions(tmp_path)
    first, second = EXAMPLES["fuse"]
    for example, written in ((first, "fused.csv"), (second, "fused.parquet")):
        result = run(*words(example))
        assert result.code == 0, result.err
        assert (tmp_path / written).is_file()
    fused = pd.read_csv(tmp_path / "fused.csv")
    truth = pd.read_csv(tmp_path / "labels.csv")
    assert (fused["label"] == truth["label"]).mean() > 0.6


def test_examples_of_features_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips.csv").write_text("text,label\nwhat a good day,joy\nthe sad end,sadness\n")
    assert run(*words(EXAMPLES["features extract"][0])).code == 0
    assert pd.read_csv(tmp_path / "features.csv")["bag-of-words__day"].tolist() == [1, 0]


# --- flags ------------------------------------------------------------------------------------------------------------


def test_a_flag_has_one_kind_of_value_everywhere() -> None:
    kinds: dict[str, dict[str, str]] = {}
    for name, command in COMMANDS.items():
        for parameter in command.params:
            for flag in parameter.opts:
                if flag.startswith("--") and (name, flag) != (
                    "batch",
                    "--out",
                ):  # a folder or an address of cloud storage
                    kinds.setdefault(flag, {})[name] = parameter.type.name.removesuffix(" range")
    torn = {flag: found for flag, found in kinds.items() if len(set(found.values())) > 1}
    assert not torn


@pytest.mark.parametrize(("name", "renamed"), RENAMED.items())
def test_former_flags_lead_to_options_that_exist(name: str, renamed: dict[str, str]) -> None:
    today = {flag for parameter in COMMANDS[name].params for flag in parameter.opts}
    assert set(renamed.values()) <= today
    assert not set(renamed) & (today - set(renamed.values()))


def test_former_flags_are_taken_and_the_new_ones_told(run: Run, tmp_path: Path) -> None:
    files = write_predictions(tmp_path)
    tables = [files["face"], files["voice"]]
    kept = run("fuse", *tables, "--labels", files["labels"], "--method", "mean", "--save", tmp_path / "own")
    assert kept.code == 0, kept.err
    old = run("fuse", *tables, "--load", tmp_path / "own", "--json")
    new = run("fuse", *tables, f"--fuser={tmp_path / 'own'}", "--json")
    assert json.loads(old.out) == json.loads(new.out)
    assert old.err == "affuse: --load is now called --fuser\n"
    assert new.err == ""


def test_flags_after_two_dashes_are_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert current_flags("analyze", ["--bundle=a", "--", "--bundle"]) == ["--package=a", "--", "--bundle"]
    assert capsys.readouterr().err == "affuse: --bundle is now called --package\n"


def test_a_folder_of_ones_own_is_a_manifest_of_train(capsys: pytest.CaptureFixture[str]) -> None:
    assert current_flags("train", ["--data", "mine"]) == ["--manifest", "mine"]
    told = capsys.readouterr().err
    assert told == "affuse: --data is now called --manifest\n"
    assert current_flags("train", ["--corpus", "emodb", "--data", "d"]) == ["--dataset", "emodb", "--data", "d"]


def test_recipes_are_said_to_have_moved(run: Run) -> None:
    result = run("train", "--recipe", "voice", "--out", "runs/voice")
    assert result.code == 2
    assert result.err == "affuse: --recipe has moved; in a checkout of affuse, run: python -m recipes.voice\n"


# --- completion -------------------------------------------------------------------------------------------------------


def test_names_are_completed_one_after_the_other() -> None:
    assert "log_pool" in completion.methods("lo")
    assert completion.methods("mean,prod") == ["mean,product"]
    assert completion.modalities("face,") == ["face,voice", "face,text"]
    assert "ravdess" in completion.corpora("rav")
    assert completion.benchmarks("mo") == ["mosi"]
    assert "tf-idf" in completion.features("tf")
    assert completion.splits("t") == ["train", "test"]
    assert {"face", "voice", "text"} <= set(completion.experts(""))
    assert "crnn" in completion.networks("cr")
    assert completion.adaptations("p") == ["person"]
    assert completion.person_adaptations("") == list(comparison.ADAPTATIONS)
    assert completion.adaptations("") == list(adaptation.ADAPTATIONS)
    assert completion.priors("") == ["dialogue", "uniform", "tempered"]
    assert completion.targets("onnx-") == ["onnx-int8"]


def fresh(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, check=False)


def test_the_shell_is_told_how_to_complete() -> None:
    assert "_AFFUSE_COMPLETE" in fresh("-m", "affuse.cli", _AFFUSE_COMPLETE="source_bash").stdout
    line = {"COMP_WORDS": "affuse compare --methods lo", "COMP_CWORD": "3"}
    offered = fresh("-m", "affuse.cli", _AFFUSE_COMPLETE="complete_bash", **line)
    assert offered.stdout.split() == ["log_pool"]


HEAVY = {"torch", "sklearn", "pandas", "cv2", "av", "onnxruntime", "scipy", "matplotlib"}


def test_help_loads_nothing_heavy_and_no_numpy() -> None:
    code = (
        "import json, sys; from affuse.cli.main import app\n"
        "app(['analyze', '--help'], standalone_mode=False)\n"
        "print(json.dumps(list(sys.modules)))"
    )
    loaded = set(json.loads(fresh("-c", code).stdout.splitlines()[-1]))
    assert "affuse.cli.analyze" in loaded
    assert not {*HEAVY, "numpy", "rich"} & loaded


def test_help_and_completion_load_nothing_heavy() -> None:
    code = (
        "import json, sys; from affuse.cli import completion, main\n"
        "names = (completion.methods, completion.features, completion.corpora, completion.experts)\n"
        "for complete in names: complete('')\n"
        "print(json.dumps(list(sys.modules)))"
    )
    loaded = set(json.loads(fresh("-c", code).stdout))
    assert not HEAVY & loaded
