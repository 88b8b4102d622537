"""Saved networks that somebody has damaged: refused in a sentence, or read and answering."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="networks need the extra train")
pytest.importorskip("lightning", reason="networks need the extra train")

from safetensors.numpy import load_file, save_file

from affuse.errors import AssetError
from affuse.fusion.networks import NetworkFuser
from affuse.fusion.networks.files import load, save

_X = np.random.default_rng(0).normal(size=(60, 5))
_WRONG = (None, True, 7, -1.5, 1e308, "x", [], {}, [[1], [2, 3]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("network")
    y = (_X[:, 0] > 0).astype(int)
    save(NetworkFuser({"a": slice(0, 2), "b": slice(2, 5)}, "late", max_epochs=1, progress=False).fit(_X, y), place)
    return place


def refused_or_answers(place: Path, what: object) -> bool:
    """Whether it was refused."""
    try:
        fuser = load(place)
    except AssetError as error:
        assert "\n" not in str(error), what  # noqa: PT017 - it may be well-formed after all
        return True
    answers = fuser.predict_proba(np.resize(_X, (60, fuser.n_features_in_)))  # more columns may belong to no block
    assert answers.shape == (60, len(fuser.classes_)), what
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, rtol=1e-5, err_msg=str(what))
    return False


def test_facts_of_another_type(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "network.safetensors").write_bytes((folder / "network.safetensors").read_bytes())
    facts: dict[str, Any] = json.loads((folder / "network.json").read_text())
    for name in facts:
        for wrong in (..., *_WRONG):
            changed = {key: value for key, value in (facts | {name: wrong}).items() if value is not ...}
            (tmp_path / "network.json").write_text(json.dumps(changed))
            refused = refused_or_answers(tmp_path, (name, wrong))
            assert refused or name in ("best_epoch", "seen", "n_features") or wrong == facts[name], (name, wrong)
    for name in facts["parameters"]:
        for wrong in _WRONG:
            changed = {**facts, "parameters": facts["parameters"] | {name: wrong}}
            (tmp_path / "network.json").write_text(json.dumps(changed))
            refused_or_answers(tmp_path, (name, wrong))


def test_tensors_of_another_shape_or_type(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "network.json").write_bytes((folder / "network.json").read_bytes())
    tensors = load_file(folder / "network.safetensors")
    for name, tensor in tensors.items():
        others = [tensor.ravel()[:, None], tensor[None], tensor[:-1], np.full_like(tensor, np.nan)]
        for other in (*others, np.zeros((0, *tensor.shape), dtype=tensor.dtype)):
            save_file(tensors | {name: np.ascontiguousarray(other)}, tmp_path / "network.safetensors")
            assert refused_or_answers(tmp_path, (name, other.shape)), (name, other.shape)
        save_file({key: value for key, value in tensors.items() if key != name}, tmp_path / "network.safetensors")
        assert refused_or_answers(tmp_path, name)


@pytest.mark.parametrize("name", ["network.json", "network.safetensors"])
def test_files_that_were_cut_off(folder: Path, tmp_path: Path, name: str) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = (folder / name).read_bytes()
    for length in (0, 1, 7, 8, 100, len(content) // 2, len(content) - 2):
        (tmp_path / name).write_bytes(content[:length])
        assert refused_or_answers(tmp_path, length)
    (tmp_path / name).write_bytes(b"[" * 100_000)
    assert refused_or_answers(tmp_path, "nested")
