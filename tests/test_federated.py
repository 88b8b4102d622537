"""Learning together without Flower: the network, the budget, what a client answers and what a server makes of it."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import check_grad

from affuse.errors import ConfigError, DataError, OutputError
from affuse.federated.certificates import ClientKey, make_certificates, read_trusted, verified
from affuse.federated.coordinator import Collected, agreed, claim, coordinate, refusal
from affuse.federated.data import Rows, Table, aligned, fuser_inputs, read_rows
from affuse.federated.head import Noise, first_weights, loss_and_gradient, private_gradient, train_head
from affuse.federated.participant import Common, Participant, Reply, spread_of, standardised
from affuse.federated.plan import Plan
from affuse.fusion.learned import Stacking
from affuse.fusion.named import NamedFuser

LABELS = ("anger", "happiness", "sadness")


def table(n: int, seed: int, width: int = 32) -> Table:
    rng = np.random.default_rng(seed)
    y = rng.integers(len(LABELS), size=n)
    X = rng.normal(size=(n, width))
    X[np.arange(n), y] += 2.0
    return Table(X, np.eye(len(LABELS))[y])


def voices(seed: int, n: int = 60) -> Rows:
    return Rows("voice", LABELS, table(n, seed), table(20, seed + 100))


class Averaging:
    """A federation in this process that weighs by rows, as FedAvg does, with nothing of Flower."""

    def __init__(self, *participants: Participant) -> None:
        self.participants = participants
        self.refused = ""
        self.phases: list[str] = []

    def facts(self) -> dict[str, Mapping[str, Any]]:
        return {p.name: p.facts() for p in self.participants}

    def settle(self, plan: Plan) -> None:
        self.plan = plan

    def refuse(self, reason: str) -> None:
        self.refused = reason

    def ask(self, phase: str, plan: Plan, number: int, arrays: Sequence[np.ndarray], shapes: Any) -> Collected:
        self.phases.append(phase)
        replies: list[Reply] = [p.answer(phase, plan, number, arrays) for p in self.participants]
        assert all([a.shape for a in r.arrays] == list(shapes) for r in replies)
        weights = np.array([r.weight for r in replies], dtype=float)
        told = {p.name: r.told for p, r in zip(self.participants, replies, strict=True)}
        if not weights.any():
            return Collected(None, told)
        columns = zip(*(r.arrays for r in replies), strict=True)
        return Collected([np.average(np.stack(c), axis=0, weights=weights) for c in columns], told)

    def finish(self, plan: Plan, arrays: Sequence[np.ndarray], temperature: float) -> None:
        for participant in self.participants:
            participant.answer("finished", plan, 0, arrays, temperature)


# --- examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["certificates", "coordinator", "data", "head", "participant", "plan", "privacy"])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "privacy":
        pytest.importorskip("dp_accounting", reason="the budget needs the extra federated (dp-accounting)")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"affuse.federated.{name}")
    failed, tried = doctest.testmod(
        module, extraglobs={"np": np, "Path": Path}, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert (failed, tried > 0) == (0, True)


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [0, 4])
def test_the_gradient_is_that_of_the_loss(hidden: int) -> None:
    rng = np.random.default_rng(1)
    X, Y, weights = rng.normal(size=(7, 3)), np.eye(2)[rng.integers(2, size=7)], rng.uniform(0.5, 2, 7)
    head = [part + 0.1 * rng.normal(size=part.shape) for part in first_weights(3, 2, Plan("voice", hidden=hidden))]
    shapes = [part.shape for part in head]
    ends = np.cumsum([part.size for part in head])

    def parts(flat: np.ndarray) -> list[np.ndarray]:
        return [p.reshape(s) for p, s in zip(np.split(flat, ends[:-1]), shapes, strict=True)]

    flat = np.concatenate([part.ravel() for part in head])
    error = check_grad(
        lambda v: loss_and_gradient(parts(v), X, Y, weights, 0.1)[0],
        lambda v: np.concatenate([p.ravel() for p in loss_and_gradient(parts(v), X, Y, weights, 0.1)[1]]),
        flat,
    )
    assert error < 1e-5


@pytest.mark.parametrize("hidden", [0, 4])
def test_a_private_gradient_is_the_sum_of_clipped_gradients_of_single_rows(hidden: int) -> None:
    rng = np.random.default_rng(2)
    X, Y = rng.normal(size=(6, 3)) * 3, np.eye(2)[rng.integers(2, size=6)]
    head = [part + rng.normal(size=part.shape) for part in first_weights(3, 2, Plan("voice", hidden=hidden))]
    expected = [np.zeros_like(part) for part in head]
    clipped = 0
    for x, y in zip(X, Y, strict=True):
        _, single = loss_and_gradient(head, x[None], y[None], np.ones(1))
        norm = np.sqrt(sum((part**2).sum() for part in single))
        clipped += norm > 0.5
        for total, part in zip(expected, single, strict=True):
            total += part * min(1.0, 0.5 / norm)
    assert clipped > 0  # else nothing was tested
    found = private_gradient(head, X, Y, 0.5, 4.0, Noise(0.0))
    assert all(np.allclose(a, b / 4.0) for a, b in zip(found, expected, strict=True))


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    head = [np.zeros((100, 50)), np.zeros(50)]
    found = private_gradient(head, np.zeros((0, 100)), np.zeros((0, 50)), 2.0, 4.0, Noise(3.0))
    assert found[0].std() == pytest.approx(3.0 * 2.0 / 4.0, rel=0.05)


def test_fedprox_stays_nearer_to_the_common_network() -> None:
    rows, common = table(60, 0), first_weights(32, 3, Plan("voice"))
    own = [
        train_head(common, rows.X, rows.Y, np.ones(60), Plan("voice", strategy=s, proximal=1.0, learning_rate=0.1))
        for s in ("fedavg", "fedprox")
    ]
    far, near = (sum(((a - b) ** 2).sum() for a, b in zip(head, common, strict=True)) for head in own)
    assert 0 < near < far


# --- statistics -------------------------------------------------------------------------------------------------------


def test_statistics_of_clients_are_those_of_all_rows_in_one_place() -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(2.0, 3.0, size=(50, 34))
    X[rng.random(X.shape) < 0.2] = np.nan
    Y = np.eye(3)[rng.integers(3, size=50)]
    plan = Plan("joint", labels=LABELS, columns=("a", "b"))
    total, n = [np.zeros(3), *np.zeros((3, 34))], 0
    for part in (slice(0, 10), slice(10, 50)):
        own = Table(X[part], Y[part])
        reply = Participant("x", Rows("joint", LABELS, own, own, ("a", "b"))).answer("statistics", plan, 0, [])
        total = [a + reply.weight * b for a, b in zip(total, reply.arrays, strict=True)]
        n += reply.weight
    centre, scale = spread_of(*(part / n for part in total[1:]))
    assert np.allclose(total[0] / n, Y.mean(axis=0))
    assert np.allclose(centre, np.nanmean(X, axis=0))
    assert np.allclose(scale, np.nanstd(X, axis=0))


def test_inputs_that_are_missing_are_marked_and_do_not_count() -> None:
    X = np.full((2, 34), np.nan)
    X[0, :32] = 1.0
    X[1, 32] = 5.0
    common = Common(np.full(3, 1 / 3), np.ones(34), np.full(34, 2.0), [])
    found = standardised(Plan("joint", columns=("a", "b")), common, X)
    assert found[:, -2:].tolist() == [[1, 0], [0, 1]]
    assert found[1, 32] == 2.0
    assert np.abs(found[0, :-2]).sum() == 0


# --- a whole run ------------------------------------------------------------------------------------------------------


def test_clients_learn_what_all_rows_in_one_place_teach(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx writes the package")
    clients = [Participant(f"c{i}", voices(i)) for i in range(3)]
    outcome = coordinate(Plan("voice", rounds=30), Averaging(*clients), tmp_path / "out")
    assert clients[1].result is not None
    plan, common, temperature = clients[1].result
    X, Y = (np.concatenate([getattr(c.rows.train, part) for c in clients]) for part in ("X", "Y"))
    central = Common(Y.mean(axis=0), X.mean(axis=0), X.std(axis=0), [])
    Z = standardised(plan, central, X)
    longer = dataclasses.replace(plan, epochs=30)
    alone = train_head(first_weights(32, 3, plan), Z, Y, np.ones(len(Z)), longer)
    assert np.allclose(common.centre, central.centre)
    new = table(500, 9)
    right = [
        (np.argmax(standardised(plan, c, new.X) @ h[0] + h[1], axis=1) == new.Y.argmax(axis=1)).mean()
        for c, h in ((common, common.head), (central, alone))
    ]
    assert abs(right[0] - right[1]) < 0.03
    assert right[0] > 0.75
    assert outcome.facts["accuracy"] > 0.6
    assert 0.25 <= temperature <= 8.0


def test_what_is_written_is_an_expert_that_answers_as_the_network(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx writes the package")
    from affuse.packages import load_package
    from affuse.testing import synthetic

    outcome = coordinate(Plan("voice", rounds=2), Averaging(Participant("c", voices(0))), tmp_path / "out")
    expert: Any = load_package(outcome.result)
    assert expert.modality == "voice"
    assert expert.labels.labels == LABELS
    assert expert.classify(synthetic.speech(seconds=1.0, pitch=140)).sum() == pytest.approx(1.0)
    assert "accuracy on the clients' held-out rows" in (outcome.folder / "card.md").read_text()


def test_a_joint_expert_answers_without_its_voice_or_its_numbers(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx writes the package")
    from affuse.packages import read_package

    rows = Rows("joint", LABELS, table(60, 0, 34), table(9, 1, 34), ("AU01_r", "AU02_r"))
    outcome = coordinate(Plan("joint", rounds=3), Averaging(Participant("c", rows)), tmp_path / "out")
    package = read_package(outcome.result)
    sound = np.random.default_rng(0).normal(0, 0.1, (1, 16000)).astype(np.float32)
    numbers = np.array([[1.0, np.nan]], dtype=np.float32)

    def answers(voice: float, columns: float, numbers: np.ndarray = numbers) -> np.ndarray:
        present = np.array([[voice, columns]], dtype=np.float32)
        return package.run("probabilities", waveform=sound, columns=numbers, present=present)

    assert np.isfinite(answers(1, 1)).all()
    other = np.array([[9.0, 9.0]], dtype=np.float32)
    assert np.array_equal(answers(1, 0), answers(1, 0, other))
    assert not np.allclose(answers(1, 1), answers(1, 1, other))


def predictions(folder: Path, seed: int) -> list[Path]:
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=60)
    paths = []
    for name, sure in (("face", 0.9), ("voice", 0.2)):
        P = rng.dirichlet([1, 1], size=60) * (1 - sure) + sure * np.eye(2)[y]
        rows = [
            f"{i},{p[0]:.6f},{p[1]:.6f},{'happy' if t == 0 else 'sad'},{i // 6}"
            for i, (p, t) in enumerate(zip(P, y, strict=True))
        ]
        paths.append(folder / f"{name}.csv")
        paths[-1].write_text("\n".join(["id,happy,sad,label,group", *rows]))
    return paths


def test_a_fuser_that_was_learned_together_is_read_and_answers(tmp_path: Path) -> None:
    clients = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        rows = read_rows("fuser", predictions(tmp_path / str(number), number))
        assert len(rows.held_out) == 12  # two of ten groups
        clients.append(Participant(f"c{number}", rows))
    outcome = coordinate(Plan("fuser", rounds=10), Averaging(*clients), tmp_path / "out")
    named = NamedFuser.read(outcome.result)
    assert named.modalities == ("face", "voice")
    P = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [np.nan, np.nan]]])
    found = named.fuse(P, ["face", "voice"])
    assert found.argmax(axis=1).tolist() == [0, 1]
    assert clients[0].result is not None
    _, common, temperature = clients[0].result
    logits = ((fuser_inputs(P) - common.centre) / common.scale) @ common.head[0] + common.head[1]
    expected = np.exp(logits / temperature)
    assert np.allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-6)
    assert isinstance(named.fuser, Stacking)


def test_labels_may_stand_in_another_order_in_the_tables_of_a_fuser() -> None:
    P = np.array([[[0.7, 0.2, 0.1]], [[0.1, 0.8, 0.1]]])
    rows = Rows(
        "fuser",
        ("a", "b", "c"),
        Table(fuser_inputs(P), np.eye(3)[:2]),
        Table(fuser_inputs(P), np.eye(3)[:2]),
        (),
        ("m",),
    )
    moved = aligned(rows, ("c", "a", "b"))
    assert np.allclose(moved.train.X, fuser_inputs(P[:, :, [2, 0, 1]]))
    assert np.array_equal(moved.train.Y, np.eye(3)[:2][:, [2, 0, 1]])


def test_clients_without_held_out_rows_leave_the_temperature_alone(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx writes the package")
    rows = dataclasses.replace(voices(0), held_out=table(0, 0))
    outcome = coordinate(Plan("voice", rounds=1), Averaging(Participant("c", rows)), tmp_path / "out")
    assert (outcome.facts["temperature"], outcome.facts["accuracy"]) == (1.0, None)


# --- what does not go together ----------------------------------------------------------------------------------------


def test_clients_with_other_labels_are_told_so_and_nothing_is_written(tmp_path: Path) -> None:
    other = dataclasses.replace(voices(1), labels=("anger", "fear", "sadness"))
    federation = Averaging(Participant("one", voices(0)), Participant("two", other))
    with pytest.raises(DataError, match="the clients have different labels") as caught:
        coordinate(Plan("voice"), federation, tmp_path / "out")
    assert federation.refused == str(caught.value)
    assert not (tmp_path / "out").exists()


def test_stated_labels_let_clients_have_some_of_them_only() -> None:
    facts = {"one": Participant("one", voices(0)).facts()}
    wide = Plan("voice", labels=("anger", "fear", "happiness", "sadness"))
    assert agreed(wide, facts).labels == wide.labels
    with pytest.raises(DataError, match="one cannot take part: it has the label happiness, which the plan lacks"):
        agreed(Plan("voice", labels=("anger", "sadness")), facts)
    with pytest.raises(DataError, match="these data have the label happiness"):
        aligned(voices(0), ("anger", "sadness"))


def test_a_client_of_another_kind_or_encoder_cannot_take_part() -> None:
    facts = Participant("one", voices(0)).facts()
    assert "for the kind voice" in refusal(Plan("fuser"), facts)
    assert "its columns are AU01_r" in refusal(Plan("voice", labels=LABELS), {**facts, "columns": ["AU01_r"]})
    with pytest.raises(DataError, match="two cannot take part: its voice network is another"):
        agreed(Plan("voice"), {"one": facts, "two": {**facts, "encoder": "another"}})


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        ("fuser", "id,happy,sad,label\n", "holds no rows|hold no row with a true label"),
        ("fuser", "id,happy,sad\n1,0.5,0.5\n", "hold no row with a true label"),
        ("fuser", "id,happy,sad,label\n1,0.5,0.5,happy\n", "holds 1 rows to learn from; a client needs at least 2"),
        ("voice", "path,label\n", "no row|has no rows|is empty"),
        ("voice", "path,label\nnowhere.wav,angry\n", "nowhere.wav"),
    ],
)
def test_a_client_without_rows_is_told_so(kind: str, content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(content)
    with pytest.raises(DataError, match=reason):
        read_rows(kind, [tmp_path / "mine.csv"])


def test_names_of_clients_and_certificates(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "trial", ["localhost", "127.0.0.1"], ["anna"])
    assert [oct(path.stat().st_mode & 0o777) for path in made if path.suffix == ".key"] == ["0o600", "0o600"]
    key, trusted = ClientKey(tmp_path / "trial/clients/anna.key"), read_trusted(tmp_path / "trial/trusted")
    signed = key.sign(b"nonce", "anna")
    assert verified(trusted, "anna", b"nonce", signed)
    assert not verified(trusted, "anna", b"other", signed)
    assert not verified(trusted, "ben", b"nonce", signed)
    with pytest.raises(OutputError, match="not empty"):
        make_certificates(tmp_path / "trial", ["localhost"], ["anna"])
    for names in (["../anna"], ["anna", "anna"], []):
        with pytest.raises(ConfigError, match="different client names"):
            make_certificates(tmp_path / "other", ["localhost"], names)
    with pytest.raises(ConfigError, match="another kind of key"):
        ClientKey(tmp_path / "trial/server.key")
    with pytest.raises(ConfigError, match="no private key that can be read"):
        ClientKey(tmp_path / "trial/ca.pem")
    with pytest.raises(ConfigError, match="holds no public key of a client"):
        read_trusted(tmp_path / "trial/clients")


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(OutputError, match="not empty"):
        claim(tmp_path)
    claim(tmp_path / "new")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "smell"}, "unknown kind 'smell'"),
        ({"strategy": "best"}, "unknown strategy 'best'"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"delta": 1.0}, "delta must be above 0"),
        ({"secure": True, "strategy": "krum"}, "choose one of the two"),
        ({"kind": "fuser", "hidden": 3}, "a fuser has no hidden layer"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
    ],
)
def test_a_plan_that_does_not_hold_together_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Plan(**{"kind": "voice", **change})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"kind": "voice", "rounds": "1"}',
        '{"kind": "voice", "rounds": true}',
        '{"kind": "voice", "secure": 1}',
        '{"kind": "voice", "labels": [1]}',
        '{"kind": "voice", "own": 1}',
    ],
)
def test_a_plan_from_the_network_is_checked(text: str) -> None:
    with pytest.raises(DataError, match="not one that this affuse reads"):
        Plan.from_json(text)


def test_the_clients_that_a_strategy_needs() -> None:
    assert Plan("voice").fewest == 1
    assert Plan("voice", secure=True).fewest == 3
    assert Plan("voice", strategy="krum", malicious=1).fewest == 5
    assert Plan("voice", strategy="bulyan", malicious=1).fewest == 7
    assert Plan("voice", strategy="median", malicious=2).fewest == 5


# --- the budget -------------------------------------------------------------------------------------------------------


@pytest.fixture
def private() -> Plan:
    pytest.importorskip("dp_accounting", reason="the budget needs the extra federated (dp-accounting)")
    return Plan("voice", labels=LABELS, epsilon=4.0, rounds=3, batch_size=20, learning_rate=0.3)


def test_a_run_keeps_within_its_budget_and_asks_for_nothing_else(private: Plan, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx writes the package")
    federation = Averaging(Participant("c", voices(0), simulated=True))
    outcome = coordinate(private, federation, tmp_path / "out")
    assert federation.phases == ["train"] * 3
    assert 3.9 < outcome.facts["epsilon"] <= 4.0
    for phase in ("statistics", "calibrate"):
        with pytest.raises(ConfigError, match="which the privacy budget does not cover"):
            Participant("c", voices(0)).answer(phase, private, 0, [np.zeros(3)] * 5)


def test_a_budget_is_spent_once_also_after_a_restart(private: Plan, tmp_path: Path) -> None:
    common = Common(np.full(3, 1 / 3), np.zeros(32), np.ones(32), first_weights(32, 3, private))
    ledger = tmp_path / "ledger.json"
    spent = []
    for number in range(1, 4):  # every round by a client that was started anew
        client = Participant("c", voices(0), ledger)
        spent.append(client.answer("train", private, number, common.arrays).told["epsilon"])
    assert spent == sorted(spent)
    assert 3.9 < spent[-1] <= 4.0
    with pytest.raises(ConfigError, match=r"another round would spend epsilon 4\.\d+ of these rows, and 4.00"):
        Participant("c", voices(0), ledger).answer("train", private, 4, common.arrays)
    with pytest.raises(DataError, match="is the ledger of other rows"):
        Participant("d", voices(1), ledger).answer("train", private, 1, common.arrays)
    ledger.write_text("[]")
    with pytest.raises(DataError, match="is no ledger"):
        Participant("c", voices(0), ledger).answer("train", private, 1, common.arrays)


def test_a_client_keeps_to_its_own_limit_and_asks_for_a_ledger(private: Plan) -> None:
    common = Common(np.full(3, 1 / 3), np.zeros(32), np.ones(32), first_weights(32, 3, private))
    with pytest.raises(ConfigError, match="name the file of its account by --ledger"):
        Participant("c", voices(0)).answer("train", private, 1, common.arrays)
    with pytest.raises(ConfigError, match=r"and 0\.50 are allowed"):
        Participant("c", voices(0), most_epsilon=0.5, simulated=True).answer("train", private, 1, common.arrays)


def test_a_client_takes_part_with_the_protection_that_it_asks_for_only() -> None:
    plan = Plan("voice", labels=LABELS)
    with pytest.raises(ConfigError, match="has no secure aggregation"):
        Participant("c", voices(0), secure=True).answer("statistics", plan, 0, [])
    with pytest.raises(ConfigError, match="has no privacy budget"):
        Participant("c", voices(0), most_epsilon=8.0).answer("statistics", plan, 0, [])


def test_another_accountant_agrees_that_the_budget_holds(private: Plan) -> None:
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    from affuse.federated.privacy import epsilon_of, noise_for, steps_of

    one = steps_of(private, 60)
    noise = noise_for(private, 60)
    tight = PLDAccountant()
    step = dp_event.PoissonSampledDpEvent(one.share, dp_event.GaussianDpEvent(noise))
    tight.compose(dp_event.SelfComposedDpEvent(step, one.steps * private.rounds))
    ours = epsilon_of([dataclasses.replace(one, noise=noise, steps=one.steps * private.rounds)], private.delta)
    assert 0.7 * ours < tight.get_epsilon(private.delta) <= ours <= private.epsilon
