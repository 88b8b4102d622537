"""The names of splits, and data of older versions that call the dev split "valid"."""

from __future__ import annotations

from pathlib import Path

import pytest

from affuse.data.own import DataOptions, Sample
from affuse.data.splits import SPLITS, find_split, split_name
from affuse.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("dev", "dev"),
        ("valid", "dev"),
        ("VALIDATION", "dev"),
        (" val ", "dev"),
        ("development", "dev"),
        ("holdout", "dev"),
        ("test", "test"),
        ("Testing", "test"),
    ],
)
def test_other_names_of_splits_are_understood(text: str, split: str) -> None:
    assert split_name(text) == find_split(text) == split
    assert split in SPLITS


def test_an_unknown_split_names_what_is_near_and_what_there_is() -> None:
    assert find_split("practice") is None
    with pytest.raises(
        ConfigError, match=r"unknown split 'vaild' \(did you mean 'valid'.*\?\); known: train, dev, test"
    ):
        split_name("vaild")


def test_a_sample_says_dev_however_its_split_was_written() -> None:
    assert Sample("a", split="valid").split == "dev"
    assert Sample("a", split="").split == ""
    with pytest.raises(ConfigError, match="unknown split 'practice'"):
        Sample("a", split="practice")


def test_configuration_files_of_older_versions_may_say_valid(tmp_path: Path) -> None:
    config = pytest.importorskip("affuse.training.config")
    table = '[data]\nsource = "d.csv"\nmodality = "text"\n[data.reading]\nvalid = 0.3\n'
    (tmp_path / "run.toml").write_text(table)
    assert config.read_config(tmp_path / "run.toml").data.reading == DataOptions(dev=0.3)
