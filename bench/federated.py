"""Train a voice expert together, by five clients as processes of their own over TLS, and measure it.

``python -m bench.federated --data DIR --work DIR [--seeds 5] [--parts central,rejoin,…]``

RAVDESS by actor: five clients with three of the fifteen training actors each (one of the three is held out by its
client), and the five actors of dev for the test, whom neither a client nor the shipped encoder has heard. The encoder
learned from the fifteen. Every figure is on the 300 clips of the five. "central" is the same network, learned by
the same steps from the rows of all clients in one place. What is said of processes comes from ``affuse federate
server`` and ``client``, with certificates of ``affuse federate certificates``; "in one process" from
`affuse.federated.simulate`, which sends the same messages. With every seed the clients get other actors, and their
rows another order.

A hostile client (``poison``) sends in every round the common network moved ten times as far in the wrong direction,
or learns from labels that are all moved on by one. A killed client (``rejoin``) is ended by SIGKILL in round 5 and
started again at once; a round waits one second for who left.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from affuse.data.corpora import load
from affuse.data.own import DataOptions, read
from affuse.data.prediction_sets import load as load_predictions
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.federated.data import Rows, Table, fuser_inputs, numbers, read_rows
from affuse.federated.head import first_weights, scores, train_head
from affuse.federated.participant import Common, Participant, Reply, label_weights, spread_of, standardised
from affuse.federated.plan import PRIVATE, Plan
from affuse.fusion.learned import Stacking

CLIENTS = 5
NAMES = [f"client-{number}" for number in range(1, CLIENTS + 1)]
EPSILONS = (1.0, 2.0, 4.0, 8.0, 16.0)
AGAINST = ("fedavg", "median", "trimmed-mean", "krum", "multi-krum")
PARTS = ("central", "svm", "rejoin", "poison", "secure", "privacy", "joint", "fuser")


class Negated(Participant):
    """A client that moves the common network ten times as far as it would, in the wrong direction."""

    def answer(self, phase: str, plan: Plan, number: int, arrays: Sequence[np.ndarray], extra: float = 1.0) -> Reply:
        """An honest answer, turned round where it is a network."""
        reply = super().answer(phase, plan, number, arrays, extra)
        if phase != "train":
            return reply
        common = Common.of(arrays).head
        return Reply([c - 10 * (own - c) for c, own in zip(common, reply.arrays, strict=True)], reply.weight)


# --- data -------------------------------------------------------------------------------------------------------------


def actors(seed: int, names: Sequence[str]) -> list[list[str]]:
    """Actors of every client."""
    order = np.random.default_rng(seed).permutation(sorted(names))
    return [list(map(str, part)) for part in np.array_split(order, CLIENTS)]


def manifests(data: Path, work: Path, seed: int, flipped: bool = False) -> list[Path]:
    """A table a client; with ``flipped`` the last client's labels are all moved on by one."""
    corpus = load("ravdess", data, "train")
    labels = corpus.labels.labels
    paths = []
    for number, own in enumerate(actors(seed, set(map(str, corpus.groups)))):
        path = work / f"manifest-{seed}-{number + 1}{'-flipped' if flipped and number == CLIENTS - 1 else ''}.csv"
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "label", "speaker", "split"])
            for clip, target, actor in zip(corpus.inputs, corpus.targets, corpus.groups, strict=True):
                if actor in own:
                    label = labels[(target + (flipped and number == CLIENTS - 1)) % len(labels)]
                    split = "dev" if actor == own[0] else "train"
                    rows.writerow([Path(clip).resolve(), label, actor, split])
        paths.append(path)
    return paths


class Heard:
    """What the encoder hears in every clip, kept in ``work`` for all runs in one process."""

    def __init__(self, data: Path, work: Path, kind: str) -> None:
        whole = read("ravdess", kind, DataOptions(folder=data))
        self.kind, self.labels, self.columns = kind, whole.labels.labels, whole.column_names
        kept = work / f"heard-{kind}.npz"
        if not kept.exists():
            tables = {split: numbers(whole, split, keep_silent=True) for split in ("train", "dev")}
            arrays = {f"{split}_{part}": getattr(tables[split], part) for split in tables for part in ("X", "Y")}
            np.savez(kept, **arrays)
        with np.load(kept) as arrays:
            self.train, self.test = (Table(arrays[f"{s}_X"], arrays[f"{s}_Y"]) for s in ("train", "dev"))
        self.speakers = {s: np.array([sample.speaker for sample in whole.split(s)]) for s in ("train", "dev")}

    def rows(self, seed: int, flipped: bool = False) -> list[Rows]:
        """Rows of every client, as its manifest gives them."""
        found = []
        own_actors, X, Y = self.speakers["train"], self.train.X, self.train.Y
        for number, own in enumerate(actors(seed, set(own_actors))):
            moved = np.roll(Y, 1, axis=1) if flipped and number == CLIENTS - 1 else Y
            heard = ~np.isnan(X).all(axis=1)
            held, learned = heard & (own_actors == own[0]), heard & np.isin(own_actors, own[1:])
            tables = Table(X[learned], moved[learned]), Table(X[held], moved[held])
            found.append(Rows(self.kind, self.labels, *tables, self.columns))
        return found


# --- central ----------------------------------------------------------------------------------------------------------


def central(plan: Plan, rows: Sequence[Rows]) -> tuple[Plan, Common]:
    """The same network from the rows of all clients in one place, by as many passes over them."""
    plan = dataclasses.replace(plan, labels=rows[0].labels, columns=rows[0].columns, modalities=rows[0].modalities)
    X = np.concatenate([own.train.X for own in rows])
    Y = np.concatenate([own.train.Y for own in rows])
    filled = np.nan_to_num(X)
    moments = spread_of((~np.isnan(X)).mean(axis=0), filled.mean(axis=0), (filled**2).mean(axis=0))
    common = Common(Y.mean(axis=0), *moments, [])
    Z = standardised(plan, common, X)
    longer = dataclasses.replace(plan, epochs=plan.epochs * plan.rounds, strategy="fedavg")
    head = train_head(first_weights(Z.shape[1], Y.shape[1], plan), Z, Y, Y @ label_weights(common.prior), longer)
    return plan, dataclasses.replace(common, head=head)


def hits(plan: Plan, common: Common, test: Table) -> np.ndarray:
    """Which rows are read right (n,)."""
    return scores(common.head, standardised(plan, common, test.X)).argmax(axis=1) == test.Y.argmax(axis=1)


def together(
    plan: Plan, rows: Sequence[Rows], work: Path, hostile: bool = False
) -> tuple[Plan, Common, Mapping[str, Any]]:
    """A run in one process, whose last client may be hostile."""
    from affuse.federated.simulation import simulate

    kinds = [Participant] * (len(rows) - 1) + [Negated if hostile else Participant]
    clients = [k(name, own, simulated=True) for k, name, own in zip(kinds, NAMES, rows, strict=True)]
    folder = work / f"simulated-{time.time_ns()}"
    outcome = simulate(plan, clients, folder)
    assert clients[0].result is not None
    return clients[0].result[0], clients[0].result[1], outcome.facts


# --- processes --------------------------------------------------------------------------------------------------------


class Process:
    """A process whose lines are kept as they come."""

    def __init__(self, arguments: Sequence[str], on_line: Callable[[str], None] = lambda line: None) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self._thread = threading.Thread(target=self._read, args=(on_line,), daemon=True)
        self._thread.start()

    def _read(self, on_line: Callable[[str], None]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            on_line(line.rstrip())

    def wait(self, seconds: float = 900) -> int:
        """Its exit code."""
        code = self.process.wait(seconds)
        self._thread.join(10)
        return code


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def by_processes(
    tables: Sequence[Path], work: Path, options: Sequence[str], hostile: bool = False, kill: bool = False
) -> dict[str, Any]:
    """A run of a server and its clients over TLS; the second client may be killed, the last one be hostile."""
    trial = work / "trial"
    if not trial.exists():
        done = Process(
            ["affuse.cli", "federate", "certificates", *NAMES, "--server-name", "127.0.0.1", "--out", str(trial)]
        )
        assert done.wait() == 0, done.lines
    port, out = free_port(), work / f"run-{time.time_ns()}"
    clients: list[Process] = []
    began: dict[int, float] = {}

    def start(number: int) -> Process:
        name = NAMES[number]
        module = (
            ["bench.federated", "--hostile"]
            if hostile and number == CLIENTS - 1
            else ["affuse.cli", "federate", "client"]
        )
        own = ["--manifest", str(tables[number]), "--server", f"127.0.0.1:{port}", "--name", name]
        proof = ["--tls-ca", str(trial / "ca.pem"), "--client-key", str(trial / "clients" / f"{name}.key")]
        ledger = ["--ledger", str(out.with_suffix(f".{name}.json"))] if "--epsilon" in options else []
        return Process([*module, *own, *proof, *ledger])

    def on_line(line: str) -> None:
        if line.startswith("round "):
            began.setdefault(int(line.split()[1]), time.time())
        if kill and line.startswith("round 5 of"):
            clients[1].process.send_signal(signal.SIGKILL)
            clients.append(start(1))

    tls = ["--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-ca", "ca.pem", "--trusted", "trusted"]
    tls = [part if part.startswith("--") else str(trial / part) for part in tls]
    server = Process(
        [
            "affuse.cli",
            "federate",
            "server",
            "--clients",
            str(CLIENTS),
            "--port",
            str(port),
            *tls,
            "--out",
            str(out),
            *options,
        ],
        on_line,
    )
    clients += [start(number) for number in range(CLIENTS)]
    codes = [server.wait(), *(client.wait(120) for client in clients)]
    assert codes[0] == 0, (server.lines, [c.lines[-3:] for c in clients])
    facts = json.loads((out / "federated.json").read_text())
    rounds = facts["rounds"]
    seconds = (began[len(rounds)] - began[1]) / max(1, len(rounds) - 1)
    return {"package": out / "package", "facts": facts, "codes": codes, "seconds": seconds, "lines": server.lines}


def package_hits(package: Path, data: Path) -> np.ndarray:
    """Which clips of the test actors a package reads right, read as ``affuse analyze`` reads sound."""
    from affuse.data.own import waveform
    from affuse.packages import load_package

    expert: Any = load_package(package)
    samples = read("ravdess", "voice", DataOptions(folder=data)).split("dev")
    names = load("ravdess", data, "dev").labels.labels
    answers = [expert.labels.labels[int(expert.classify(waveform(sample)).argmax())] for sample in samples]
    return np.array([answer == names[sample.label] for answer, sample in zip(answers, samples, strict=True)])


def test_actors(data: Path) -> np.ndarray:
    """Actors of the test clips, in their order."""
    return np.array([sample.speaker for sample in read("ravdess", "voice", DataOptions(folder=data)).split("dev")])


# --- parts ------------------------------------------------------------------------------------------------------------


def told(right: np.ndarray) -> str:
    """An accuracy in per cent."""
    return f"{100 * right.mean():.1f}"


def measure_central(data: Path, work: Path, heard: Heard, seeds: int) -> None:
    """Processes over TLS against central training."""
    differences, pairs = [], []
    for seed in range(seeds):
        found = by_processes(manifests(data, work, seed), work, ["--set", f"seed={seed}"])
        apart = package_hits(found["package"], data)
        alone = hits(*central(Plan("voice", seed=seed), heard.rows(seed)), heard.test)
        differences.append(apart.astype(float) - alone)
        pairs.append((apart.mean(), alone.mean()))
        print(
            f"seed {seed}: by processes {told(apart)}, central {told(alone)}, {found['seconds']:.2f} s a round",
            flush=True,
        )
    mean = np.mean(differences, axis=0)
    low, high = cluster_bootstrap(mean, test_actors(data))
    means = 100 * np.mean(pairs, axis=0)
    print(f"by processes {means[0]:.1f}, central {means[1]:.1f}; difference {100 * mean.mean():.1f} points,")
    print(f"95 % interval over test actors {100 * low:.1f} to {100 * high:.1f}", flush=True)


def measure_svm(data: Path, work: Path, heard: Heard, seeds: int) -> None:
    """A support vector machine with scikit-learn's defaults, on all clients' rows in one place."""
    right = []
    for seed in range(seeds):
        X, Y = (np.concatenate([getattr(own.train, part) for own in heard.rows(seed)]) for part in ("X", "Y"))
        machine = make_pipeline(StandardScaler(), SVC()).fit(X, Y.argmax(axis=1))
        right.append((machine.predict(heard.test.X) == heard.test.Y.argmax(axis=1)).mean())
    print(f"support vector machine in one place: {100 * np.mean(right):.1f}", flush=True)


def measure_rejoin(data: Path, work: Path, heard: Heard, seeds: int) -> None:
    """A client that is killed and comes back."""
    for seed in range(min(seeds, 2)):
        options = ["--fewest", "4", "--patience", "1", "--set", f"seed={seed}"]
        found = by_processes(manifests(data, work, seed), work, options, kill=True)
        counts = [len(part["clients"]) for part in found["facts"]["rounds"]]
        back = next((n for n, c in enumerate(counts, 1) if n > 6 and c == CLIENTS), None)
        print(
            f"seed {seed}: killed in round 5, rounds with four clients: {counts.count(4)}, back in round {back}, "
            f"accuracy {told(package_hits(found['package'], data))}; exit codes {found['codes']}",
            flush=True,
        )


def measure_poison(data: Path, work: Path, heard: Heard, seeds: int) -> None:
    """A hostile client against every strategy: in one process over the seeds, and by processes for the first seed."""
    for strategy in AGAINST:
        cells = []
        for flipped, hostile in ((False, False), (True, False), (False, True)):
            right = []
            for seed in range(seeds):
                plan = Plan("voice", seed=seed, strategy=strategy)
                learned = together(plan, heard.rows(seed, flipped), work, hostile)
                right.append(hits(*learned[:2], heard.test).mean())
            cells.append(f"{100 * np.mean(right):.1f} ({100 * np.min(right):.1f} to {100 * np.max(right):.1f})")
        print(f"{strategy}: honest {cells[0]}, labels moved {cells[1]}, negated {cells[2]}", flush=True)
    for strategy in ("fedavg", "multi-krum"):
        found = by_processes(manifests(data, work, 0), work, ["--aggregation", strategy], hostile=True)
        print(f"{strategy}, negated, by processes: {told(package_hits(found['package'], data))}", flush=True)


def measure_secure(data: Path, work: Path, heard: Heard, seeds: int) -> None:
    """Secure aggregation by processes, also with a client that is killed."""
    for seed in range(min(seeds, 2)):
        own = ["--set", f"seed={seed}"]
        open_run = by_processes(manifests(data, work, seed), work, own)
        hidden = by_processes(manifests(data, work, seed), work, ["--secure", *own])
        right = [package_hits(run["package"], data) for run in (open_run, hidden)]
        same = (right[0] == right[1]).mean()
        print(
            f"seed {seed}: in the open {told(right[0])}, secure {told(right[1])}, the same clips right or wrong "
            f"{100 * same:.1f} %; {open_run['seconds']:.2f} and {hidden['seconds']:.2f} s a round",
            flush=True,
        )
    options = ["--secure", "--fewest", "4", "--patience", "1"]
    found = by_processes(manifests(data, work, 0), work, options, kill=True)
    counts = [len(part["clients"]) for part in found["facts"]["rounds"]]
    right = package_hits(found["package"], data)
    print(f"secure, killed in round 5: {counts.count(4)} rounds with four clients, accuracy {told(right)}", flush=True)


def measure_privacy(data: Path, work: Path, heard: Heard, seeds: int) -> None:
    """Accuracy by the budget: in one process over the seeds, and by processes for one budget."""
    for epsilon in EPSILONS:
        right, spent = [], []
        for seed in range(seeds):
            plan = Plan.of({**PRIVATE, "kind": "voice", "seed": seed, "epsilon": epsilon})
            learned = together(plan, heard.rows(seed), work)
            right.append(hits(*learned[:2], heard.test).mean())
            spent.append(learned[2]["epsilon"])
        cell = f"{100 * np.mean(right):.1f} ({100 * np.min(right):.1f} to {100 * np.max(right):.1f})"
        print(f"epsilon {max(spent):.2f}: {cell}", flush=True)
    plans = [Plan.of({**PRIVATE, "kind": "voice", "seed": seed}) for seed in range(seeds)]
    free = [hits(*together(plan, heard.rows(plan.seed), work)[:2], heard.test).mean() for plan in plans]
    print(f"the same settings without a budget: {100 * np.mean(free):.1f}", flush=True)
    found = by_processes(manifests(data, work, 0), work, ["--epsilon", "8", "--secure"])
    right = package_hits(found["package"], data)
    print(f"by processes, secure, epsilon {found['facts']['epsilon']:.2f}: {told(right)}", flush=True)


def measure_joint(data: Path, work: Path, heard: Heard, seeds: int) -> None:
    """Voice and action units, in one process."""
    both = Heard(data, work, "joint")
    lines = []
    for seed in range(seeds):
        plan = Plan("joint", seed=seed)
        apart = hits(*together(plan, both.rows(seed), work)[:2], both.test)
        alone = hits(*central(plan, both.rows(seed)), both.test)
        lines.append((apart.mean(), alone.mean()))
    means = 100 * np.mean(lines, axis=0)
    print(f"joint, in one process: {means[0]:.1f}, central {means[1]:.1f}", flush=True)


def measure_fuser(data: Path, work: Path, heard: Heard, seeds: int) -> None:
    """Stacking over the published answers of other people's networks about actors whom these had not seen."""
    folds = list(load_predictions("ravdess_posteriors", data, "test").values())
    P = np.concatenate([fold.P for fold in folds])
    X, Y = fuser_inputs(P), np.eye(P.shape[2])[np.concatenate([fold.targets for fold in folds])]
    persons = np.concatenate([fold.groups for fold in folds])
    names = sorted(set(persons))
    test = np.isin(persons, names[::4])
    lines = []
    for seed in range(seeds):
        rows = []
        for own in actors(seed, sorted(set(names) - set(names[::4]))):
            tables = (Table(X[m], Y[m]) for m in (np.isin(persons, own[1:]), persons == own[0]))
            rows.append(Rows("fuser", folds[0].labels, *tables, modalities=folds[0].modalities))
        plan = Plan("fuser", seed=seed)
        kept = Table(X[test], Y[test])
        plan_, common, _ = together(plan, rows, work)
        learned = np.isin(
            persons, [name for own in actors(seed, sorted(set(names) - set(names[::4]))) for name in own[1:]]
        )
        stack = Stacking().fit(P[learned], Y[learned].argmax(axis=1))
        exact = (stack.predict_proba(P[test]).argmax(axis=1) == Y[test].argmax(axis=1)).mean()
        lines.append((hits(plan_, common, kept).mean(), hits(*central(plan, rows), kept).mean(), exact))
    means = 100 * np.mean(lines, axis=0)
    print(
        f"fuser, {len(names[::4])} test actors, {test.sum()} clips: together {means[0]:.1f}, central {means[1]:.1f}, "
        f"affuse's Stacking in one place {means[2]:.1f}",
        flush=True,
    )


def hostile(arguments: Sequence[str]) -> None:
    """The process of a hostile client."""
    parser = argparse.ArgumentParser()
    for name in ("--manifest", "--server", "--name", "--tls-ca", "--client-key"):
        parser.add_argument(name, required=True)
    options = parser.parse_args(arguments)
    from affuse.federated import ClientKey, join

    rows = read_rows("voice", [options.manifest])
    join(Negated(options.name, rows), options.server, Path(options.tls_ca), ClientKey(Path(options.client_key)))


def main() -> None:
    """Measure what is asked for."""
    if "--hostile" in sys.argv:
        hostile([a for a in sys.argv[1:] if a != "--hostile"])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", default=",".join(PARTS))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    heard = Heard(options.data, options.work, "voice")
    measures = {name: globals()[f"measure_{name}"] for name in PARTS}
    for name in options.parts.split(","):
        print(f"-- {name}", flush=True)
        measures[name](options.data, options.work, heard, options.seeds)


if __name__ == "__main__":
    main()
