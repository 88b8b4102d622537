"""``affuse federate``: train together with others, whose recordings stay with them as yours stay with you."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from affuse.cli.command import AffuseCommand, epilog
from affuse.cli.options import Settings, names_of, with_limits
from affuse.errors import ConfigError
from affuse.lazy import needs_extra

if TYPE_CHECKING:
    from affuse.federated.coordinator import Outcome
    from affuse.federated.plan import Plan

__all__ = ["app"]

app = typer.Typer(
    help="Train an expert or a fuser together with others, without sharing recordings (federated learning).",
    no_args_is_help=True,
)

_Kind = Annotated[str, typer.Option(help="voice, joint (voice and a table's columns) or fuser.")]
_LabelSet = Annotated[
    str | None, typer.Option(help="All labels, with commas (default: those of the clients, who must have the same).")
]
_Rounds = Annotated[int, typer.Option(help="How often the clients' networks are averaged.", min=1)]
_Aggregation = Annotated[
    str,
    typer.Option(help="fedavg or fedprox; median, trimmed-mean, krum, multi-krum or bulyan hold off hostile clients."),
]
_Secure = Annotated[bool, typer.Option("--secure", help="The server gets nothing but sums over clients (SecAgg+).")]
_Epsilon = Annotated[
    float | None,
    typer.Option(help="Budget of differential privacy for a recording, such as 8 (default: none).", min=0.01),
]
_Out = Annotated[Path, typer.Option(help="Folder of the run, new or empty.")]


@app.command(cls=AffuseCommand, epilog=epilog("federate server"))
def server(
    clients: Annotated[int, typer.Option(help="Clients with whom it begins.", min=1)],
    out: _Out,
    kind: _Kind = "voice",
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 8443,
    tls_cert: Annotated[Path | None, typer.Option(help="The server's certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate (PEM).")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="Certificate of the authority that signed it (PEM).")] = None,
    trusted: Annotated[
        Path | None, typer.Option(help="Folder of the clients' public keys, NAME.pub; nobody else is let in.")
    ] = None,
    label_set: _LabelSet = None,
    rounds: _Rounds = 50,
    aggregation: _Aggregation = "fedavg",
    secure: _Secure = False,
    epsilon: _Epsilon = None,
    changes: Settings = None,
    fewest: Annotated[
        int | None, typer.Option(help="Clients without whom no round is made (default: --clients).", min=1)
    ] = None,
    patience: Annotated[float, typer.Option(help="Seconds for which a round waits for who left.", min=0)] = 5.0,
    timeout: Annotated[
        float, typer.Option(help="Seconds that an answer may take, and in which enough clients must come.", min=1)
    ] = 600.0,
) -> None:
    """Wait for clients, train with them, and write a package for analyze and evaluate, or a fuser for fuse.

    --set takes any other setting of the plan: epochs, hidden, learning_rate, batch_size, penalty, seed, proximal,
    malicious, most_rows, delta, clip.
    """
    plan = _plan(kind, label_set, rounds, aggregation, secure, epsilon, changes)
    least = clients if fewest is None else fewest
    if least > clients:
        raise ConfigError(f"--fewest must be at most --clients; got {least} and {clients}")
    with needs_extra("federated"):
        from affuse.federated.flower import Needs
        from affuse.federated.network import Tls, serve

        tls = _tls(Tls, tls_cert, tls_key, tls_ca)
        if trusted is None:
            _say("anybody who reaches this server can take part; --trusted names the clients who may")
        needs = Needs(clients, least, patience, timeout)
        _tell(serve(plan, out, needs, f"{host}:{port}", tls, trusted, _say))


@app.command(cls=AffuseCommand, epilog=epilog("federate client"))
@with_limits
def client(
    manifest: Annotated[
        Path,
        typer.Option(
            help="Your own labelled recordings, as for affuse train; for a fuser, tables of probabilities with commas."
        ),
    ],
    server: Annotated[str, typer.Option(help="HOST:PORT of the server.")],
    name: Annotated[str, typer.Option(help="How the record of the run calls you.")],
    kind: _Kind = "voice",
    tls_ca: Annotated[Path | None, typer.Option(help="Certificate of the authority that you trust (PEM).")] = None,
    client_key: Annotated[Path | None, typer.Option(help="Your private key, by which you prove your name.")] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="File that keeps what your recordings have spent of a privacy budget.")
    ] = None,
    most_epsilon: Annotated[
        float | None, typer.Option(help="Budget above which you do not go, whatever the server asks for.", min=0)
    ] = None,
    secure: Annotated[bool, typer.Option("--secure", help="Take part with secure aggregation only.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds for which to try to reach the server.", min=0)] = 60.0,
    out: Annotated[Path | None, typer.Option(help="Folder for what was learned together, new or empty.")] = None,
) -> None:
    """Take part with your own recordings, which stay on this machine."""
    with needs_extra("federated"):
        from affuse.federated.certificates import ClientKey
        from affuse.federated.coordinator import claim
        from affuse.federated.data import read_rows
        from affuse.federated.network import join, split_address
        from affuse.federated.participant import Participant
        from affuse.federated.result import write_result

        split_address(server)
        if out is not None:
            claim(out)
        key = None if client_key is None else ClientKey(client_key)
        rows = read_rows(kind, _sources(kind, manifest))
        for note in rows.notes:
            _say(f"note: {note}")
        _say(f"{len(rows.train)} rows to learn from, {len(rows.held_out)} held out")
        participant = Participant(name, rows, ledger, most_epsilon, secure)
        plan, common, temperature = join(participant, server, tls_ca, key, wait, _say)
        _say(f"done after {plan.rounds} rounds")
        if out is not None:
            card = f"# federated-{plan.kind}\n\nLearned by `affuse federate`; the server has the full card.\n"
            typer.echo(f"written: {write_result(out, plan, common, temperature, {}, card)}")


@app.command(cls=AffuseCommand, epilog=epilog("federate simulate"))
@with_limits
def simulate(
    manifests: Annotated[list[str], typer.Argument(help="Recordings of each client; for a fuser, tables with commas.")],
    out: _Out,
    kind: _Kind = "voice",
    label_set: _LabelSet = None,
    rounds: _Rounds = 50,
    aggregation: _Aggregation = "fedavg",
    secure: _Secure = False,
    epsilon: _Epsilon = None,
    changes: Settings = None,
) -> None:
    """Rehearse a run with all clients in this process, without a network."""
    plan = _plan(kind, label_set, rounds, aggregation, secure, epsilon, changes)
    with needs_extra("federated"):
        from affuse.federated.coordinator import claim
        from affuse.federated.data import read_rows
        from affuse.federated.participant import Participant
        from affuse.federated.simulation import simulate as run

        claim(out)
        participants = [
            Participant(f"client-{number}", read_rows(kind, _sources(kind, source)), simulated=True)
            for number, source in enumerate(manifests, start=1)
        ]
        _tell(run(plan, participants, out, _say))


@app.command(cls=AffuseCommand, epilog=epilog("federate certificates"))
def certificates(
    server_name: Annotated[list[str], typer.Option(help="Name or address of the server; may be given several times.")],
    name: Annotated[list[str], typer.Argument(help="Names of the clients.")],
    out: _Out,
    days: Annotated[int, typer.Option(help="How long they are good for.", min=1)] = 30,
) -> None:
    """Make certificates and keys for a trial: an authority, the server's, and a key for each client."""
    with needs_extra("federated"):
        from affuse.federated.certificates import make_certificates

        for path in make_certificates(out, server_name, name, days):
            typer.echo(str(path))


def _plan(
    kind: str,
    label_set: str | None,
    rounds: int,
    aggregation: str,
    secure: bool,
    epsilon: float | None,
    changes: Sequence[str] | None,
) -> Plan:
    from affuse.federated.plan import PRIVATE, Plan

    settings: dict[str, Any] = dict(PRIVATE) if epsilon else {}
    settings |= dict(map(_setting, changes or []))
    own = {"kind": kind, "rounds": rounds, "strategy": aggregation, "secure": secure, "epsilon": epsilon or 0.0}
    return Plan.of({**settings, **own, "labels": names_of(label_set) or []})


def _setting(change: str) -> tuple[str, Any]:
    from affuse.federated.plan import SETTINGS

    name, _, value = change.partition("=")
    if name not in SETTINGS:
        raise ConfigError(f"--set {change}: unknown setting {name!r}; known: {', '.join(SETTINGS)}")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--set {change}: {value!r} is no number") from error


def _tls(make: Any, cert: Path | None, key: Path | None, authority: Path | None) -> Any:
    given = {"--tls-cert": cert, "--tls-key": key, "--tls-ca": authority}
    if not any(given.values()):
        return None
    missing = [flag for flag, path in given.items() if path is None]
    if missing:
        raise ConfigError(f"TLS needs --tls-cert, --tls-key and --tls-ca; missing: {', '.join(missing)}")
    return make(cert, key, authority)


def _sources(kind: str, manifest: Path | str) -> list[str]:
    return (names_of(str(manifest)) or []) if kind == "fuser" else [str(manifest)]


def _say(line: str) -> None:
    typer.echo(line, err=True)
    sys.stderr.flush()


def _tell(outcome: Outcome) -> None:
    facts = outcome.facts
    if facts["accuracy"] is not None:
        typer.echo(f"accuracy on the clients' held-out rows: {100 * facts['accuracy']:.1f} %")
    if facts["epsilon"] is not None:
        typer.echo(f"privacy of each recording: epsilon {facts['epsilon']:.2f} at delta {facts['delta']:g}")
    kind = facts["plan"]["kind"]
    typer.echo(f"{outcome.result.name}: {outcome.result}")
    use = "fuse … --fuser" if kind == "fuser" else f"analyze --experts {kind}="
    typer.echo(
        f"use it: affuse {use}{' ' if kind == 'fuser' else ''}{outcome.result}{'' if kind == 'fuser' else ' CLIP'}"
    )
