"""Attacks of the study on robustness: they keep their bounds, and find what there is to find."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="gradients need the extra train")

import torch

from affuse import weights
from affuse.errors import AssetError, ConfigError, DataError
from affuse.testing import synthetic
from research import attacks, attacks_on_answers, curves, gradient_attacks, word_substitutions
from research.curves import Finding
from research.differentiable import DifferentiableGraph


@pytest.mark.parametrize(
    ("module", "least"),
    [(attacks, 3), (attacks_on_answers, 1), (curves, 1), (gradient_attacks, 2), (word_substitutions, 3)],
)
def test_the_examples_hold(module: ModuleType, least: int) -> None:
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted >= least


@pytest.mark.parametrize("shape", [(6, 8, 8), (4, 100)])
def test_a_linear_model_falls_as_far_as_the_bound_lets_it(shape: tuple[int, ...]) -> None:
    """Within a change of at most s, the score w · x of a linear model moves by at most s times the sum of |w|."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=shape[1:])

    def ask(x: np.ndarray) -> np.ndarray:
        score = (x * w).reshape(len(x), -1).sum(axis=1)
        return np.stack([score, -score], axis=1)

    x = np.zeros(shape) + 0.01 * np.sign(w)
    y = np.zeros(len(x), dtype=int)
    assert (attacks._margin(ask(x), y) > 0).all()
    for size, falls in ((0.005, False), (0.05, True)):
        changed = attacks.square_attack(ask, x, y, size, (-1.0, 1.0), 400)
        assert np.abs(changed - x).max() <= size + 1e-12
        assert bool((attacks._margin(ask(changed), y) < 0).all()) is falls
    clipped = attacks.square_attack(ask, x, y, 0.05, (0.0, 1.0), 20)
    assert clipped.min() >= 0.0


def test_a_lie_is_sure_wrong_and_in_one_modality_alone() -> None:
    rng = np.random.default_rng(0)
    P, y = rng.dirichlet(np.ones(4), size=(50, 3)), rng.integers(0, 4, 50)
    changed, rows = attacks_on_answers.poisoned(P, y, 1, 0.4)
    assert rows.sum() == 20
    np.testing.assert_allclose(changed.sum(axis=2), 1.0)
    assert (changed[rows, 1].argmax(axis=1) != y[rows]).all()
    np.testing.assert_allclose(changed[rows, 1].max(axis=1), 0.9)
    changed[rows, 1] = P[rows, 1]
    np.testing.assert_array_equal(changed, P)


# --- words by synonyms ------------------------------------------------------------------------------------------------


def _by_weights(**weights_of: float) -> Any:
    """A model of words that add up: the right label's probability is the logistic function of their sum."""

    def ask(texts: list[str]) -> np.ndarray:
        scores = np.array([sum(weights_of.get(word.strip("!?,.").lower(), 0.0) for word in t.split()) for t in texts])
        right = 1 / (1 + np.exp(-scores))
        return np.stack([right, 1 - right], axis=1)

    return ask


def test_words_that_matter_most_fall_first_each_to_its_worst_synonym() -> None:
    """Without "love" the score falls by 3, without "fine" by 1; other synonyms of "film" and "day" would raise it."""
    ask = _by_weights(love=3, adore=2, like=0.5, fine=1, okay=0.2, day=-1, date=-0.5, film=0.5, movie=0.6)
    synonyms = {"love": ["adore", "like"], "fine": ["okay"], "day": ["date"], "film": ["movie"]}
    found = word_substitutions.substituted(ask, "Fine film, love the day!", 0, 3, synonyms.get)
    assert found == ["Fine film, like the day!", "Okay film, like the day!", "Okay film, like the day!"]
    assert word_substitutions.substituted(ask, "nothing here", 0, 2, synonyms.get) == ["nothing here"] * 2


def test_names_other_forms_and_other_signs_stay() -> None:
    synonyms = {"rose": ["flower"], "glad": ["happy"], "don": ["wear"]}
    assert word_substitutions.places("Glad that Rose don't GLAD (glad)...", synonyms.get) == {
        0: ["Happy"],
        5: ["(happy)..."],
    }
    drawn = word_substitutions.substituted_at_random("glad glad rose", 2, {"glad": ["happy"]}.get, seed=0)
    assert drawn == "happy happy rose"


LICENCE = "  1 This software and database is being provided to you\n"
SYNSETS = {
    "noun": ["00000001 06 n 01 run 0 000 | a race", "00000002 06 n 02 show 0 Show_Me 0 000 | what is shown"],
    "verb": ["00000001 38 v 03 run 0 sprint 0 leg_it 0 000 | fast", "00000002 38 v 02 show 0 present 0 000 | let see"],
    "adj": [
        "00000001 00 a 02 glad(p) 0 happy 0 001 & 00000002 a 0000 | joyful",
        "00000002 00 s 04 beaming 0 glad 0 radiant(a) 0 Glad 0 000 | showing joy",
        "00000003 00 a 02 several 0 various 0 000 | more than two",
    ],
    "adv": ["00000001 02 r 01 fast 0 000 | quickly"],
}
INDEX = {
    "noun": ["run n 1 0 1 0 00000001", "show n 1 0 1 1 00000002"],
    "verb": ["run v 1 1 @ 1 1 00000001", "show v 1 0 1 1 00000002"],
    "adj": ["glad a 2 1 & 2 1 00000001 00000002", "several a 1 0 1 0 00000003"],
    "adv": ["fast r 1 0 1 0 00000001"],
}
COUNTS = ["run%2:38:00:: 1 9", "run%1:06:00:: 1 1", "show%2:38:00:: 1 5", "show%1:06:00:: 1 5"]


def _tiny_wordnet(folder: Path) -> Path:
    for part, lines in SYNSETS.items():
        (folder / f"data.{part}").write_text(LICENCE + "  \n".join(lines) + "  \n")
        (folder / f"index.{part}").write_text(LICENCE + "  \n".join(INDEX[part]) + "  \n")
    (folder / "cntlist.rev").write_text("\n".join(COUNTS) + "\n")
    return folder


@pytest.mark.parametrize(
    ("word", "senses", "expected"),
    [
        ("glad", None, ["happy", "beaming", "radiant"]),
        ("glad", 1, ["happy"]),
        ("run", None, ["sprint"]),  # a verb in 9 of 10 places
        ("show", None, []),  # as often a noun as a verb
        ("several", None, []),  # a function word
        ("runs", None, []),
    ],
)
def test_synonyms_are_single_words_of_the_only_or_usual_part_of_speech(
    tmp_path: Path, word: str, senses: int | None, expected: list[str]
) -> None:
    assert word_substitutions.WordNet(_tiny_wordnet(tmp_path)).synonyms(word, senses) == expected


def test_folders_without_wordnet_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"has no file index\.noun of WordNet; install the package wordnet-base"):
        word_substitutions.WordNet(tmp_path)
    (_tiny_wordnet(tmp_path) / "data.verb").write_text("no number\n")
    with pytest.raises(DataError, match="files that are not WordNet's"):
        word_substitutions.WordNet(tmp_path)
    out = tmp_path / "out"
    command = ["attacks", "--data", str(tmp_path), "--only", "substitutions", "--out", str(out)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as left:
        attacks.main()
    assert left.value.code == 2
    assert "needs WordNet; name by --wordnet the folder" in capsys.readouterr().err
    assert not out.exists()


# --- with gradients ---------------------------------------------------------------------------------------------------

INPUTS = {
    "face": ("images", synthetic.pictures()[:3, None].astype(np.float32)),
    "voice": ("waveform", synthetic.speech(seconds=1.5, pitch=140)[None].astype(np.float32)),
}


@pytest.mark.parametrize("name", INPUTS)
def test_a_network_with_gradients_answers_as_the_shipped_one_does(name: str) -> None:
    key, x = INPUTS[name]
    path = weights.shipped(name)
    theirs = weights.session(path).run(["probabilities", "embedding"], {key: x})
    ours = DifferentiableGraph(path)(**{key: torch.from_numpy(x)})
    np.testing.assert_allclose(ours["probabilities"].numpy(), theirs[0], atol=5e-3)  # INT8 rounds a few numbers apart
    np.testing.assert_allclose(ours["embedding"].numpy(), theirs[1], atol=0.1 if name == "voice" else 1e-4)


def test_rounding_is_passed_straight_through(tmp_path: Path) -> None:
    """Of y = 0.5 · x W in INT8 the gradient is 0.5 · W, as if nothing were rounded; y itself is what is rounded."""
    onnx = pytest.importorskip("onnx")
    make, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    W = np.array([[1, -2], [3, 0]], dtype=np.int8)
    nodes = [
        make("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        make("MatMulInteger", ["q", "W", "zero", "none"], ["product"]),
        make("Cast", ["product"], ["whole"], to=1),
        make("Mul", ["scale", "half"], ["scales"]),
        make("Mul", ["whole", "scales"], ["y"]),
    ]
    known = [constant(W, "W"), constant(np.int8(0), "none"), constant(np.float32(0.5), "half")]
    value = [onnx.helper.make_tensor_value_info(name, 1, [1, 2]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", value[:1], value[1:], known)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "x.onnx")
    x = torch.tensor([[0.3, -0.7123]], requires_grad=True)
    y = DifferentiableGraph(tmp_path / "x.onnx")(x=x)["y"]
    (theirs,) = weights.session(tmp_path / "x.onnx").run(["y"], {"x": x.detach().numpy()})
    np.testing.assert_allclose(y.detach().numpy(), theirs, atol=1e-6)
    assert not np.allclose(theirs, 0.5 * x.detach().numpy() @ W, atol=1e-5)
    y[0, 0].backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), [[0.5, 1.5]], rtol=1e-6)


def test_an_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Tan", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:])), tmp_path / "x.onnx")
    with pytest.raises(AssetError, match="the operators Tan have no gradients here"):
        DifferentiableGraph(tmp_path / "x.onnx")


@pytest.mark.parametrize("aimed", [False, True])
def test_gradients_find_the_worst_change_of_a_linear_model(aimed: bool) -> None:
    """The lead of the first label is 2 w · x, and falls most, by 2 · size · Σ|w|, where every number moves by size."""
    rng = np.random.default_rng(0)
    w = torch.from_numpy(rng.normal(size=(3, 4))).float()

    def ask(x: torch.Tensor) -> torch.Tensor:
        score = (x * w).sum(dim=(1, 2))
        return torch.softmax(torch.stack([score, -score], dim=1), dim=1)

    x = rng.uniform(0.3, 0.7, (5, 3, 4)).astype(np.float32)
    y = np.full(5, int(aimed))  # aimed at the second label, or away from the first
    worst = x - 0.1 * np.sign(w.numpy())
    for attack in (gradient_attacks.fgsm, gradient_attacks.pgd):
        found = attack(ask, x, y, 0.1, (0.0, 1.0), aimed=aimed)
        np.testing.assert_allclose(found, worst, atol=1e-6)
        lead = gradient_attacks.lead(ask(torch.from_numpy(found)), torch.zeros(5, dtype=torch.long)).numpy()
        expected = 2 * (x * w.numpy()).sum(axis=(1, 2)) - 0.2 * np.abs(w.numpy()).sum()
        np.testing.assert_allclose(lead, expected, atol=1e-4)
    clipped = gradient_attacks.pgd(ask, x, y, 0.5, (0.25, 0.75))
    assert (clipped.min(), clipped.max()) == (0.25, 0.75)


def test_curves_become_a_table_a_page_and_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need it (extra dev)")
    points = [curves.share(np.array([True, True]), np.arange(2)), curves.share(np.array([True, False]), np.arange(2))]
    found = curves.of_curves("Things, by size", "2 things", "size", [1, 2], {"attacked": points})
    assert found.rows == [["1", "100.0 % (100 to 100)"], ["2", "50.0 % (0 to 100)"]]
    (tmp_path / "attacks.md").write_text("# Attacks\n<!-- attacks: begin -->\n<!-- attacks: end -->\nafter\n")
    plain = Finding("Lies", "3 clips", ["who"], [["nobody"]])
    attacks._keep({"lies": plain}, tmp_path)
    attacks._keep({"face": found}, tmp_path)  # what an earlier run found is kept
    page = (tmp_path / "attacks.md").read_text()
    assert (
        page.index("## Things") < page.index("| 2 | 50.0 % (0 to 100) |") < page.index("## Lies") < page.index("after")
    )
    assert (tmp_path / "attacks.png").read_bytes().startswith(b"\x89PNG")
