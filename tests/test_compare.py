"""Fair comparison: intervals and tests against numbers worked out by hand, and the command from files to pictures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from affuse.cli.compare import parse_folds
from affuse.errors import ConfigError, DataError
from affuse.evaluation.comparison import compare_fusers, drop_at_random, noisy
from affuse.evaluation.intervals import cluster_bootstrap, fold_weights, t_interval
from affuse.evaluation.protocol import Fold, PredictionData, Protocol, group_folds, leave_one_part_out
from affuse.evaluation.significance import holm, mcnemar, paired_permutation
from command import Run, caller


class Mean(ClassifierMixin, BaseEstimator):
    """The plainest of fusers: what a comparison does must not depend on a clever one."""

    def fit(self, P, y, groups=None):
        self.classes_ = np.arange(P.shape[2])
        return self

    def predict_proba(self, P):
        here = ~np.isnan(P).any(axis=2, keepdims=True)
        with np.errstate(invalid="ignore"):
            return np.where(here, P, 0).sum(axis=1) / here.sum(axis=1)


class Guess(Mean):
    """Answers at random, to see whether seeds are used."""

    def __init__(self, random_state=0):
        self.random_state = random_state

    def predict_proba(self, P):
        return np.random.default_rng(self.random_state).dirichlet(np.ones(P.shape[2]), size=len(P))


# --- intervals ---


def test_weights_give_the_mean_of_the_means_of_folds() -> None:
    hits, folds = np.array([1, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1])
    assert hits @ fold_weights(folds) == pytest.approx((1 / 3 + 1) / 2)


def test_bootstrap_draws_groups_and_not_rows() -> None:
    # Two groups, all right and all wrong: the mean of two drawn groups is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4.
    hits, groups = np.repeat([1.0, 0.0], 500), np.repeat(["a", "b"], 500)
    assert cluster_bootstrap(hits, groups) == (0.0, 1.0)
    low, high = cluster_bootstrap(hits, np.arange(1000))
    assert 0.46 < low < 0.48  # 0.5 - 1.96 * sqrt(0.25 / 1000) = 0.469
    assert 0.52 < high < 0.54


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        skill = rng.normal(0.7, 0.1, size=30)
        hits = (rng.random((30, 20)) < skill[:, None]).ravel().astype(float)
        low, high = cluster_bootstrap(hits, np.repeat(np.arange(30), 20), draws=400, seed=trial)
        inside += low <= 0.7 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_t_interval_is_that_of_the_table() -> None:
    # Mean 2, standard error 1/sqrt(3), t of 2 degrees of freedom at 97.5 % is 4.3027.
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-4), pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-4))
    with pytest.raises(DataError, match="at least two; got 1"):
        t_interval([1.0])
    with pytest.raises(DataError, match="at least two groups; got 1"):
        cluster_bootstrap(np.ones(3), np.zeros(3))


# --- significance ---


def test_mcnemar_counts_only_rows_on_which_one_is_right() -> None:
    first = np.array([True] * 5 + [False] + [True] * 10)
    second = np.array([False] * 5 + [True] + [True] * 10)
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 6) / 2**6)  # five against one of six coins, both sides
    assert mcnemar(first, first) == 1.0


def test_permutation_swaps_whole_groups() -> None:
    # Three groups that all gain: of eight sign patterns only +++ and --- are as extreme.
    difference, groups = np.ones(30), np.repeat([0, 1, 2], 10)
    assert paired_permutation(difference, groups) == pytest.approx(2 / 8)
    # As rows of their own the same gain is beyond doubt.
    assert paired_permutation(difference, np.arange(30)) <= 2 / 10_000
    assert paired_permutation(np.zeros(30), groups) == 1.0


def test_permutation_rejects_as_often_as_it_says_when_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    p = [paired_permutation(rng.normal(size=40), np.repeat(np.arange(8), 5)) for _ in range(300)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09


def test_holm_by_hand() -> None:
    # Sorted .01, .02, .04 times 3, 2, 1 are .03, .04, .04.
    assert holm([0.02, 0.01, 0.04]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


# --- protocol ---


def rows(n: int = 60, groups: int = 6, seed: int = 0) -> PredictionData:
    """Two experts of three labels: the first is right on 80 % of rows, the second on 60 %, and as sure as that."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    P = np.empty((n, 2, 3))
    for j, skill in enumerate((0.8, 0.6)):
        said = np.where(rng.random(n) < skill, y, (y + rng.integers(1, 3, size=n)) % 3)
        P[:, j] = (1 - skill) / 2
        P[np.arange(n), j, said] = skill
    return PredictionData(P, y, np.arange(n) % groups)


def test_folds_share_no_group() -> None:
    data = rows()
    folds = group_folds(data, 3, seeds=(0, 1))
    assert len(folds) == 6
    assert sum(len(fold.test) for fold in folds[:3]) == len(data)
    for fold in folds:
        assert not set(fold.train.groups) & set(fold.test.groups)
    with pytest.raises(DataError, match="0 is in both train and test"):
        Fold("bad", data, data)
    with pytest.raises(DataError, match="7 folds need as many groups; got 6"):
        group_folds(data, 7)


def test_every_part_is_learned_on_the_others() -> None:
    data = rows()
    parts = {str(g): data.select(data.groups == g) for g in range(3)}
    folds = leave_one_part_out(parts)
    assert [set(fold.train.groups) for fold in folds] == [{1, 2}, {0, 2}, {0, 1}]
    with pytest.raises(DataError, match="two are needed; got 1"):
        leave_one_part_out({"0": parts["0"]})


# --- comparison ---


@pytest.fixture
def protocol() -> Protocol:
    return Protocol("made up", ("face", "voice"), ("a", "b", "c"), group_folds(rows(), 3))


def test_accuracies_are_those_of_the_rows(protocol: Protocol) -> None:
    facts = compare_fusers(protocol, {"mean": Mean()}, "mean").to_dict()
    P = np.concatenate([fold.test.P for fold in protocol.folds])
    y = np.concatenate([fold.test.y for fold in protocol.folds])
    face, voice = (float((P[:, j].argmax(axis=1) == y).mean()) for j in range(2))
    assert facts["single"]["face"]["accuracy"] == pytest.approx(face)
    assert facts["single"]["voice"]["accuracy"] == pytest.approx(voice)
    # The mean of .8/.1/.1 and .2/.6/.2 is .5/.35/.15: the face always wins, so fusion is as good as the face.
    mean = facts["methods"]["mean"]
    assert mean["accuracy"] == pytest.approx(face)
    assert (mean["difference"], mean["p"], mean["p_mcnemar"]) == (pytest.approx(0), 1.0, 1.0)
    assert mean["subsets"] == {"face": pytest.approx(face), "voice": pytest.approx(voice)}
    assert mean["missing"] == {"0": pytest.approx(face), "1": pytest.approx((face + voice) / 2)}
    assert mean["below_best_remaining"] == {}
    assert facts["auto"] == {"method": "mean", "accuracy": mean["accuracy"], "ci95": mean["ci95"]}
    assert set(facts) == {"methods", "single", "auto"}
    json.dumps(facts, allow_nan=False)


def test_confidence_rise_by_hand() -> None:
    # Both say a: .8 and .6, mean .7. Without the voice .8 (+.1), without the face .6 (-.1): mean change 0, half rise.
    P = np.tile([[0.8, 0.2], [0.6, 0.4]], (4, 1, 1))
    data = PredictionData(P, np.array([0, 1, 0, 1]), np.arange(4))
    found = compare_fusers(
        Protocol("x", ("f", "v"), ("a", "b"), group_folds(data, 2)), {"mean": Mean()}, "mean"
    ).to_dict()
    assert found["methods"]["mean"]["confidence_rise"] == {"mean": pytest.approx(0, abs=1e-12), "share": 0.5}
    # Confidence .7, right half the time, in one bin: the calibration error is .2.
    assert found["methods"]["mean"]["ece"] == pytest.approx(0.2)
    assert found["methods"]["mean"]["reliability"] == [
        {"confidence": pytest.approx(0.7), "accuracy": pytest.approx(0.5), "n": 4}
    ]


def test_rows_without_evidence_are_answered_by_the_most_frequent_label_of_the_fitting_rows() -> None:
    P = np.full((4, 2, 2), np.nan)
    fit = PredictionData(np.tile([0.5, 0.5], (3, 2, 1)), np.array([1, 1, 0]), np.array([7, 8, 9]))
    data = Protocol(
        "x", ("f", "v"), ("a", "b"), (Fold("one", fit, PredictionData(P, np.array([1, 1, 1, 0]), np.arange(4))),)
    )
    found = compare_fusers(data, {"mean": Mean()}, "mean").to_dict()
    assert found["methods"]["mean"]["accuracy"] == 0.75
    assert found["single"]["f"]["accuracy"] == 0.75


def test_methods_that_draw_at_random_run_once_a_seed(protocol: Protocol) -> None:
    found = compare_fusers(protocol, {"mean": Mean(), "guess": Guess()}, "mean", seeds=(0, 1, 2))
    assert found.methods["mean"].P.shape == (1, 60, 3)
    assert found.methods["guess"].P.shape == (3, 60, 3)
    assert not np.array_equal(found.methods["guess"].P[0], found.methods["guess"].P[1])
    accuracy = found.to_dict()["methods"]["guess"]["accuracy"]
    assert accuracy == pytest.approx(found.methods["guess"].hits.mean())
    with pytest.raises(DataError, match="'auto' is not among the methods mean"):
        compare_fusers(protocol, {"mean": Mean()}, "auto")


def test_disturbances_keep_what_probabilities_are() -> None:
    P = rows(400).P
    P[0, 0] = np.nan
    half = np.isnan(drop_at_random(P, 0.5)[1:]).any(axis=2).mean()
    assert 0.45 < half < 0.55
    loud = noisy(P, 2.0)
    np.testing.assert_allclose(loud[1:].sum(axis=2), 1.0)
    assert np.isnan(loud[0, 0]).all()
    np.testing.assert_allclose(noisy(P, 0.0)[1:], P[1:])


# --- the command ---


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd, "compare")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    data = rows(90, 9)
    for j, name in enumerate(("face", "voice")):
        lines = [f"r{i},{p[0]},{p[1]},{p[2]}" for i, p in enumerate(data.P[:, j])]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,a,b,c", *lines]))
    lines = [f"r{i},{'abc'[y]},s{g}" for i, (y, g) in enumerate(zip(data.y, data.groups, strict=True))]
    (tmp_path / "y.csv").write_text("\n".join(["id,label,speaker", *lines]))
    path = tmp_path / "my.csv"
    path.write_text("modality,path\nlabels,y.csv\nface,face.csv\nvoice,voice.csv\n")
    return path


def test_a_manifest_is_compared_and_drawn(run: Run, manifest: Path, tmp_path: Path) -> None:
    done = run("--manifest", manifest, "--group", "speaker", "--methods", "mean,log_pool", "--seeds", "1", "--json",
               "--report", tmp_path / "report")  # fmt: skip
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert set(facts) == {"methods", "single", "auto"}
    assert set(facts["methods"]) == {"mean", "log_pool", "auto"}
    assert facts["auto"]["accuracy"] == facts["methods"]["auto"]["accuracy"]
    assert 0.6 < facts["single"]["face"]["accuracy"] < 0.95
    page = (tmp_path / "report" / "comparison.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5
    assert "://" not in page  # self-contained
    for name in ("intervals", "confusions", "reliability", "missing", "noise"):
        assert (tmp_path / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_tables_show_every_method_and_modality(run: Run, manifest: Path) -> None:
    done = run("--manifest", manifest, "--group", "speaker", "--methods", "mean,vote", "--seeds", "1")
    assert done.code == 0, done.err
    for word in ("mean", "vote", "auto", "only face", "only voice", "95 % interval", "half", "rises in", "A = face"):
        assert word in done.out
    assert "…" not in done.out  # nothing is cut off


def test_what_cannot_be_compared_is_one_sentence(run: Run, manifest: Path, tmp_path: Path) -> None:
    cases = [
        ([], "give either --dataset or --manifest"),
        (["--dataset", "iemocap", "--data", tmp_path], "affuse compare knows ravdess_posteriors, mosi"),
        (["--dataset", "mosi", "--data", tmp_path / "gone"], "is not a folder"),
        (["--dataset", "ravdess_posteriors", "--data", tmp_path], "does not hold fold0/test_*.csv"),
        (["--dataset", "mosi", "--data", tmp_path, "--split", "train"], "known: dev, test"),
        (
            ["--manifest", manifest, "--methods", "meen"],
            "unknown fuser 'meen' (did you mean 'mean' or 'median'?)",
        ),
        (["--manifest", manifest, "--group", "actor"], "no column 'actor' as --group says"),
        (["--manifest", tmp_path / "gone.csv"], "does not exist"),
        (["--manifest", tmp_path / "face.csv"], "has no column 'modality'"),
    ]
    for arguments, sentence in cases:
        done = run(*arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert done.err.startswith("affuse: ")
        assert done.err.count("\n") == 1
        assert sentence in done.err


def test_folds_are_read_as_people_write_them() -> None:
    assert parse_folds(None) is None
    assert parse_folds("0-3") == [0, 1, 2, 3]
    assert parse_folds("2,0") == [0, 2]
    with pytest.raises(ConfigError, match="such as 0-3 or 0,2; got 'a-b'"):
        parse_folds("a-b")


@pytest.mark.data
def test_the_automatic_choice_beats_the_voice_on_published_outputs(run: Run, data: Path) -> None:
    asked = ("--dataset", "ravdess_posteriors", "--data", data, "--folds", "0-3", "--methods", "log_pool")
    done = run(*asked, "--seeds", "1", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["auto"]["accuracy"] >= 0.88
    assert facts["methods"]["auto"]["p_holm"] < 0.01
    assert facts["single"]["voice_wav2vec2"]["accuracy"] == pytest.approx(0.8258, abs=1e-4)
    assert done.err.count("leak alarm") == 3


@pytest.fixture
def mosi(data: Path, tmp_path: Path) -> Path:
    """The hold-out videos of the corpus parted in two, one half of which plays the test part."""
    source, folder = data / "mosi", tmp_path / "mosi"
    folder.mkdir()
    for path in source.glob("train_*"):
        (folder / path.name).symlink_to(path)
    table = pd.read_csv(source / "holdout_utterances.csv")
    videos = table["video"].unique()
    for part, chosen in (("holdout", videos[::2]), ("test", videos[1::2])):
        rows = table["video"].isin(chosen).to_numpy()
        table[rows].to_csv(folder / f"{part}_utterances.csv", index=False)
        for name in ("text", "audio", "video"):
            np.save(folder / f"{part}_{name}.npy", np.load(source / f"holdout_{name}.npy")[rows])
    return tmp_path


@pytest.mark.data
def test_mosi_reports_the_test_part_and_sounds_the_alarm(run: Run, mosi: Path) -> None:
    done = run("--dataset", "mosi", "--data", mosi, "--split", "test", "--methods", "mean", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert set(facts["single"]) == {"transcript", "text", "audio", "video"}
    assert len(facts["auto"]["ci95"]) == 2
    assert facts["single"]["video"]["accuracy"] < 0.62  # near chance, whatever cross-validation on train says
    alarms = done.err.splitlines()
    assert [line.split(": ")[1].split(" is ")[0] for line in alarms if "leak alarm" in line] == ["text", "video"]


def test_of_many_modalities_each_alone_and_each_left_out_are_tried() -> None:
    P = np.repeat(rows(40, 4).P, 4, axis=1)
    y = rows(40, 4).y
    names = tuple("abcdefgh")
    data = Protocol("x", names, ("a", "b", "c"), group_folds(PredictionData(P, y, np.arange(40) % 4), 2))
    found = compare_fusers(data, {"mean": Mean()}, "mean").to_dict()["methods"]["mean"]
    assert len(found["subsets"]) == 16
    assert list(found["missing"]) == ["0", "1", "7"]
    alone = Protocol("x", ("a",), ("a", "b", "c"), group_folds(PredictionData(P[:, :1], y, np.arange(40) % 4), 2))
    only = compare_fusers(alone, {"mean": Mean()}, "mean").to_dict()["methods"]["mean"]
    assert (only["subsets"], only["confidence_rise"]) == ({}, None)
