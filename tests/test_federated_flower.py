"""Learning together by Flower: strategies, secure aggregation, TLS, who is let in, and no telemetry."""

from __future__ import annotations

import dataclasses
import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="learning together needs the extra federated (flwr)")
pytest.importorskip("dp_accounting", reason="learning together needs the extra federated (dp-accounting)")

from flwr.app import ConfigRecord, RecordDict
from flwr.common import FitIns, Parameters, ndarrays_to_parameters
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.serde import recorddict_to_proto

from affuse.errors import AffuseError, ConfigError, DataError
from affuse.federated.certificates import ClientKey, make_certificates
from affuse.federated.coordinator import coordinate
from affuse.federated.flower import FlowerClient, FlowerFederation, Needs, Pool, _Wire, local_proxy
from affuse.federated.network import Tls, join, serve, split_address
from affuse.federated.participant import Common, Participant, Reply
from affuse.federated.plan import Plan
from affuse.federated.simulation import simulate
from bench.federated import Negated
from command import Run, caller
from test_federated import LABELS, Averaging, predictions, voices


class Broken(Participant):
    """Sends numbers that are not finite, and counts with more rows than anybody has."""

    def answer(self, phase: str, plan: Plan, number: int, arrays: Sequence[np.ndarray], extra: float = 1.0) -> Reply:
        reply = super().answer(phase, plan, number, arrays, extra)
        return Reply([part * np.nan for part in reply.arrays], 10**12)


def learned(plan: Plan, clients: Sequence[Participant], out: Path) -> Common:
    simulate(plan, clients, out)
    assert clients[0].result is not None
    return clients[0].result[1]


def clients(n: int, **options: Any) -> list[Participant]:
    return [Participant(f"c{i}", voices(i, 40 + 10 * i), **options) for i in range(n)]


def distance(a: Common, b: Common) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a.arrays, b.arrays, strict=True))


def test_flowers_average_is_that_of_all_rows(tmp_path: Path) -> None:
    plan = Plan("voice", rounds=4)
    by_flower = learned(plan, clients(3), tmp_path / "a")
    own = clients(3)
    coordinate(plan, Averaging(*own), tmp_path / "b")
    assert own[0].result is not None
    assert distance(by_flower, own[0].result[1]) < 1e-9


def test_secure_aggregation_gives_the_same_and_hides_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    carry = _Wire._one

    def spied(self: _Wire, message: Any) -> Any:
        reply = carry(self, message)
        seen.append(reply)
        return reply

    monkeypatch.setattr(_Wire, "_one", spied)
    plan = Plan("voice", rounds=3)
    open_run = learned(plan, clients(3), tmp_path / "open")
    assert seen == []
    secure = learned(dataclasses.replace(plan, secure=True), clients(3), tmp_path / "secure")
    assert distance(open_run, secure) < 2e-3  # of quantisation
    masked = [
        reply
        for reply in seen
        if not reply.has_error() and Key.MASKED_PARAMETERS in reply.content.config_records[RECORD_KEY_CONFIGS]
    ]
    assert len(masked) == 3 * 5  # clients, in statistics, three rounds and calibration
    for reply in masked:
        assert all(not record for record in reply.content.array_records.values())
        counts = [v for record in reply.content.metric_records.values() for k, v in record.items() if "num_ex" in k]
        assert counts == [1]
        for content in reply.content.config_records[RECORD_KEY_CONFIGS][Key.MASKED_PARAMETERS]:
            values = np.load(io.BytesIO(content), allow_pickle=False).ravel()
            if len(values) > 50:  # uniform over the modulus, whatever was sent
                assert abs(values.mean() / 2**32 - 0.5) < 0.2


def test_a_secure_round_goes_on_without_a_client_who_left(tmp_path: Path) -> None:
    pool, names = Pool(None), []
    for client in clients(4):
        proxy: Any = local_proxy(FlowerClient(client))
        if client.name == "c3":
            answer, calls = proxy.fit, iter(range(10**6))

            def leaving(ins: Any, *rest: Any, calls: Any = calls, answer: Any = answer) -> Any:
                if next(calls) > 5:  # in the second step of the second secure sum
                    raise ConnectionError("gone")
                return answer(ins, *rest)

            proxy.fit = leaving
        names.append(client.name)
        pool.register(proxy)
    plan = Plan("voice", rounds=2, secure=True)
    outcome = coordinate(plan, FlowerFederation(pool, Needs(4, 3, 0.0, 30.0)), tmp_path / "out")
    assert "c3: left" in outcome.facts["rounds"][0]["lost"]
    assert [part["clients"] for part in outcome.facts["rounds"]] == [["c0", "c1", "c2"]] * 2
    assert outcome.facts["accuracy"] > 0.6


def test_a_client_outlives_a_secure_round_that_failed() -> None:
    record = RecordDict({RECORD_KEY_CONFIGS: ConfigRecord({Key.STAGE: Stage.UNMASK})})  # before any key was made
    content = recorddict_to_proto(record).SerializeToString()
    answer = FlowerClient(clients(1)[0]).fit(FitIns(Parameters([], ""), {"secure": content, "node": 1}))
    assert (answer.metrics, answer.parameters.tensors) == ({}, [])


def test_a_client_does_not_answer_in_the_open_what_is_to_be_masked() -> None:
    plan = Plan("voice", labels=LABELS, secure=True)
    config = {"phase": "statistics", "plan": plan.to_json(), "number": 0}
    with pytest.raises(DataError, match="asks in the open for what its plan says is masked"):
        FlowerClient(clients(1)[0]).fit(FitIns(ndarrays_to_parameters([]), config))


@pytest.mark.parametrize("strategy", ["median", "trimmed-mean", "krum", "multi-krum"])
def test_a_robust_strategy_holds_off_one_hostile_client(strategy: str, tmp_path: Path) -> None:
    def accuracy(strategy: str, last: type[Participant]) -> float:
        own = [*clients(4), last("hostile", voices(9))]
        plan = Plan("voice", rounds=15, strategy=strategy)
        common = learned(plan, own, tmp_path / f"{strategy}-{last.__name__}")
        rows = voices(50, 300).train
        Z = (rows.X - common.centre) / common.scale
        return float(((Z @ common.head[0] + common.head[1]).argmax(axis=1) == rows.Y.argmax(axis=1)).mean())

    assert accuracy("fedavg", Negated) < 0.5
    assert accuracy(strategy, Negated) > 0.6


def test_bulyan_needs_seven_and_aggregates(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bulyan against 1 needs 7 clients"):
        simulate(Plan("voice", rounds=1, strategy="bulyan"), clients(5), tmp_path / "five")
    learned(Plan("voice", rounds=1, strategy="bulyan"), clients(7), tmp_path / "seven")


def test_answers_of_no_use_are_left_out_and_named(tmp_path: Path) -> None:
    pool = Pool(None)
    for client in [*clients(2), Broken("broken", voices(9))]:
        pool.register(local_proxy(FlowerClient(client)))
    federation = FlowerFederation(pool, Needs(3, 2, 0.0, 30.0))
    outcome = coordinate(Plan("voice", rounds=1), federation, tmp_path / "out")
    assert outcome.facts["rounds"][0]["lost"] == ["broken: sent numbers that are not finite"]
    assert outcome.facts["rounds"][0]["clients"] == ["c0", "c1"]


# --- telemetry --------------------------------------------------------------------------------------------------------

PROOF = """
import sys, urllib.request
import flwr.supercore.telemetry as telemetry  # as somebody else may have loaded it before
assert telemetry.FLWR_TELEMETRY_ENABLED == "1"
def refuse(*arguments, **options):
    raise SystemExit("something was sent")
urllib.request.urlopen = refuse
from affuse.federated import network, simulation
assert telemetry.FLWR_TELEMETRY_ENABLED == "0"
print(telemetry.create_event(telemetry.EventType.START_CLIENT_ENTER, None))
"""


def test_flowers_telemetry_is_off() -> None:
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "1"}
    done = subprocess.run([sys.executable, "-c", PROOF], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "disabled\n"), done.stderr


# --- over TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "trial"
    make_certificates(folder, ["localhost", "127.0.0.1"], ["c0", "c1", "mallory"])
    (folder / "trusted" / "mallory.pub").unlink()
    make_certificates(folder.parent / "other", ["localhost"], ["c0"])
    return folder


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def in_thread(function: Callable[[], Any]) -> Callable[[], Any]:
    """Call a function in a thread; what is returned waits for its result or raises its error."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append((function(), None))
        except Exception as error:
            result.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait() -> Any:
        thread.join(60)
        value, error = result[0]
        if error is not None:
            raise error
        return value

    return wait


def tls_of(trial: Path) -> Tls:
    return Tls(trial / "server.pem", trial / "server.key", trial / "ca.pem")


def test_two_clients_over_tls_and_one_who_is_not_let_in(trial: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    lines: list[str] = []
    needs = Needs(2, 2, 5.0, 30.0)
    server = in_thread(
        lambda: serve(
            Plan("voice", rounds=3), tmp_path / "out", needs, address, tls_of(trial), trial / "trusted", lines.append
        )
    )
    first = clients(1)[0]
    keys = {name: ClientKey(trial / "clients" / f"{name}.key") for name in ("c0", "c1", "mallory")}
    joined = in_thread(lambda: join(first, address, trial / "ca.pem", keys["c0"], 20.0))
    stranger = Participant("mallory", voices(7))
    with pytest.raises(DataError, match="'mallory' did not prove its name by a key that the server knows"):
        join(stranger, address, trial / "ca.pem", keys["mallory"], 20.0)
    thief = Participant("c1", voices(7))
    with pytest.raises(DataError, match="'c1' did not prove its name"):
        join(thief, address, trial / "ca.pem", keys["mallory"], 20.0)
    second = Participant("c1", voices(1))
    plan, common, _ = join(second, address, trial / "ca.pem", keys["c1"], 20.0)
    outcome = server()
    assert plan.labels == LABELS
    assert distance(joined()[1], common) == 0
    assert [part["clients"] for part in outcome.facts["rounds"]] == [["c0", "c1"]] * 3
    assert outcome.result.is_dir()
    assert any("'mallory' was not let in" in line for line in lines)


def test_what_goes_wrong_with_the_connection_is_one_sentence(trial: Path, tmp_path: Path) -> None:
    client = clients(1)[0]
    nowhere = f"localhost:{free_port()}"
    with pytest.raises(AffuseError, match="no server answers at localhost"):
        join(client, nowhere, trial / "ca.pem", None, 0.0)
    address = f"localhost:{free_port()}"
    server = in_thread(
        lambda: serve(
            Plan("voice"),
            tmp_path / "out",
            Needs(1, 1, 0.0, 4.0),
            address.replace("localhost", "127.0.0.1"),
            tls_of(trial),
        )
    )
    with pytest.raises(AffuseError, match=r"shows a certificate that .*other.ca\.pem does not vouch for"):
        join(client, address, trial.parent / "other" / "ca.pem", None, 10.0)
    with pytest.raises(AffuseError, match=r"0 of 1 clients came within 4 s;"):
        server()
    assert not (tmp_path / "out").exists()
    for other, reason in (
        ("example.org:1", "is another machine"),
        ("localhost", "is HOST:PORT"),
        ("a:b", "is HOST:PORT"),
    ):
        with pytest.raises(ConfigError, match=reason):
            join(client, other, None)
    with pytest.raises(ConfigError, match="without TLS the server listens at 127"):
        serve(Plan("voice"), tmp_path / "out", Needs(1, 1), "0.0.0.0:8443", None)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot listen at 127"):
        serve(Plan("voice"), tmp_path / "out", Needs(1, 1), f"127.0.0.1:{taken.getsockname()[1]}", None)
    with pytest.raises(ConfigError, match="do not fit together"):
        Tls(trial / "server.pem", trial.parent / "other" / "server.key", trial / "ca.pem")
    assert split_address("[::1]:8443") == ("::1", 8443)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


def tables(folder: Path, number: int) -> str:
    (folder / str(number)).mkdir()
    return ",".join(map(str, predictions(folder / str(number), number)))


def test_the_command_rehearses_a_run(run: Run, tmp_path: Path) -> None:
    own = [tables(tmp_path, number) for number in range(3)]
    done = run("federate", "simulate", *own, "--kind", "fuser", "--rounds", 5, "--secure", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "accuracy on the clients' held-out rows" in done.out
    assert f"affuse fuse … --fuser {tmp_path / 'out' / 'fuser'}" in done.out
    again = run("federate", "simulate", *own, "--kind", "fuser", "--out", tmp_path / "out")
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "is there and not empty" in again.err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--set", "colour=1"], "unknown setting 'colour'"),
        (["--set", "epochs=two"], "'two' is no number"),
        (["--set", "epochs=1.5"], "epochs cannot be 1.5"),
        (["--aggregation", "best"], "unknown strategy 'best'"),
        (["--secure", "--aggregation", "median"], "choose one of the two"),
        (["--kind", "smell"], "unknown kind 'smell'"),
    ],
)
def test_wrong_options_are_one_sentence(options: list[str], reason: str, run: Run, tmp_path: Path) -> None:
    done = run("federate", "simulate", "a.csv", "--out", tmp_path / "out", *options)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert reason in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_server_and_clients_as_processes_and_a_client_that_is_killed(trial: Path, tmp_path: Path) -> None:
    port = free_port()
    begin = [sys.executable, "-m", "affuse.cli", "federate"]
    tls = ["--tls-cert", trial / "server.pem", "--tls-key", trial / "server.key", "--tls-ca", trial / "ca.pem"]
    options = ["--clients", "2", "--fewest", "1", "--patience", "120", "--rounds", "30", "--port", port]
    out = ["--out", tmp_path / "out"]
    server = subprocess.Popen(
        list(map(str, [*begin, "server", "--kind", "fuser", *options, *tls, "--trusted", trial / "trusted", *out])),
        stderr=subprocess.PIPE,
        text=True,
    )

    def start(number: int, data: str) -> subprocess.Popen[str]:
        own = ["--manifest", data, "--server", f"127.0.0.1:{port}", "--name", f"c{number}", "--kind", "fuser"]
        proof = ["--tls-ca", str(trial / "ca.pem"), "--client-key", str(trial / "clients" / f"c{number}.key")]
        return subprocess.Popen([*begin, "client", *own, *proof], stderr=subprocess.DEVNULL, text=True)

    data = [tables(tmp_path, number) for number in range(2)]
    own = [start(number, data[number]) for number in range(2)]
    assert server.stderr is not None
    lines = []
    for line in server.stderr:
        lines.append(line.strip())
        if line.startswith("round 2 of"):
            own[1].kill()
            own.append(start(1, data[1]))
    server.stderr.close()
    assert server.wait(60) == 0
    assert [own[0].wait(60), own[2].wait(60)] == [0, 0]
    assert own[1].wait(60) == -9
    assert "c1 left" in lines
    assert lines.count("c1 is there") == 2
    assert lines[-1] == "round 30 of 30: 2 clients"
    assert (tmp_path / "out" / "fuser" / "fuser.json").is_file()
