"""Every registered fuser keeps the contract, works in scikit-learn's tools, and is found by its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import affuse
from affuse import fusion
from affuse.errors import ConfigError
from affuse.fusion import registry, rules
from affuse.fusion.estimator import Fuser
from affuse.fusion.registry import class_homes
from affuse.testing import check_fuser

NAMES = sorted(registry.BUILT_IN)


def simulated(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three experts of growing skill: P (n, 3, 4), labels (n,) and groups of four rows (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=n)
    L = rng.normal(size=(n, 3, 4))
    L[np.arange(n)[:, None], np.arange(3), y[:, None]] += [1.0, 1.5, 2.0]
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y, np.arange(n) // 4


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str) -> None:
    check_fuser(registry.make(name))


@pytest.mark.parametrize("name", NAMES)
def test_scikit_learn_tools(name: str) -> None:
    P, y, groups = simulated(120)
    fuser = registry.make(name)
    assert clone(fuser).get_params().keys() == fuser.get_params().keys()
    scores = cross_val_score(fuser, P, y, groups=groups, cv=GroupKFold(3))
    assert scores.mean() > 0.5, "chance is 0.25, the best expert alone above 0.7"
    pipeline = make_pipeline(FunctionTransformer(), fuser)
    np.testing.assert_array_equal(pipeline.fit(P, y).predict(P), clone(fuser).fit(P, y).predict(P))


def test_grid_search_chooses_a_parameter() -> None:
    P, y, _ = simulated()
    search = GridSearchCV(registry.make("weighted"), {"weights": [[1, 0, 0], [0, 0, 1]]}, cv=3).fit(P, y)
    assert search.best_params_ == {"weights": [0, 0, 1]}, "the third expert is the best"


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_public_and_explained(name: str) -> None:
    kind = registry.find(name)
    assert issubclass(kind, Fuser)
    assert getattr(fusion, kind.__name__) is kind
    assert kind.__name__ in fusion.__all__
    assert "gaps" in kind.__doc__.lower()
    assert "ties" in kind.__doc__.lower()


def test_every_public_name_of_the_room_leads_somewhere() -> None:
    assert len(set(fusion.__all__)) == len(fusion.__all__)
    assert all(getattr(fusion, name) is not None for name in fusion.__all__)
    with pytest.raises(AttributeError, match="no attribute 'MeanRul'"):
        fusion.MeanRul  # noqa: B018 - the access is what is tested


def test_names_are_listed_once_and_found_everywhere() -> None:
    assert set(fusion.__all__) <= set(dir(fusion))
    assert "BordaCount" in fusion.__all__
    assert rules.__all__ == sorted(class_homes("affuse.fusion.rules"))
    assert rules.BordaCount is fusion.BordaCount
    assert set(rules.__all__) <= set(dir(rules))


def test_unknown_names_and_parameters_list_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"unknown fuser 'mea' \(did you mean 'mean'.*; known: .*mean, median"):
        registry.make("mea")
    with pytest.raises(ConfigError, match=r"'log_pool' has no option 'shrink' .*; options: shrinkage, prior"):
        registry.make("log_pool", shrink=1)
    assert registry.make("log_pool", shrinkage=3.0).shrinkage == 3.0


def test_other_packages_register_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "affuse.fusion.rules.averaging:MeanRule", registry.GROUP)
    monkeypatch.setattr("affuse.registry.entry_points", lambda group: [point] if group == registry.GROUP else [])
    assert "theirs" in registry.names()
    assert registry.find("theirs") is fusion.MeanRule


RULE = """\"\"\"A rule of somebody who adds one.\"\"\"

import numpy as np

from affuse.fusion.estimator import Fuser

__all__ = ["Midrange"]


class Midrange(Fuser):
    \"\"\"Mean of the least and the greatest probability. Gaps: left out. Ties: the first column.\"\"\"

    def combine(self, P, here):
        found = np.nan_to_num(np.fmin.reduce(P, axis=1) + np.fmax.reduce(P, axis=1)) + 1e-9
        return found / found.sum(axis=1, keepdims=True)
"""

USE = """
import affuse.fusion
from affuse.evaluation import compare
from affuse.fusion import Midrange
from affuse.fusion.rules import Midrange as of_rules
from affuse.testing import check_fuser
from affuse.testing.tables import predictions

assert Midrange is of_rules and Midrange.__module__ == "affuse.fusion.rules.midrange"
assert "Midrange" in affuse.fusion.__all__ and "Midrange" in dir(affuse.fusion)
assert "midrange" in affuse.fusion.names()
check_fuser(affuse.fusion.make("midrange"))  # with the way to disk and back
assert "midrange" in compare(predictions(), methods=["midrange"], seeds=1).methods
print(affuse.__file__)
"""

CALL = "from affuse.cli import main; main()"


def test_a_rule_is_one_file_and_one_line(tmp_path: Path) -> None:
    """A copy of affuse with one more rule finds it everywhere: names, contract, ``affuse compare`` and ``fuse``."""
    source, copy = Path(affuse.__file__).parent, tmp_path / "affuse"
    copy.mkdir()
    for part in source.iterdir():
        if part.name not in ("fusion", "__pycache__"):
            (copy / part.name).symlink_to(part)
    shutil.copytree(source / "fusion", copy / "fusion")
    (copy / "fusion" / "rules" / "midrange.py").write_text(RULE)
    table = copy / "fusion" / "registry.py"
    line = '    "midrange": "affuse.fusion.rules.midrange:Midrange",\n'
    table.write_text(table.read_text().replace("BUILT_IN = {\n", "BUILT_IN = {\n" + line))

    (tmp_path / "face.csv").write_text("id,angry,happy\na,0.2,0.8\nb,0.7,0.3\n")
    (tmp_path / "voice.csv").write_text("id,angry,happy\na,0.6,0.4\nb,0.7,0.3\n")

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(copy) in run("-c", USE)
    run("-c", CALL, "fuse", "face.csv", "voice.csv", "--method", "midrange", "--out", "fused.csv")
    fused = np.genfromtxt(tmp_path / "fused.csv", delimiter=",", skip_header=1, usecols=(1, 2))
    np.testing.assert_allclose(fused, [[0.4, 0.6], [0.7, 0.3]], rtol=1e-6)
