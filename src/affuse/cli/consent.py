"""``affuse consent``: a ledger of who agreed to which analysis, which ``affuse batch --consent`` obeys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affuse.cli import completion
from affuse.cli.command import AffuseCommand, epilog
from affuse.cli.options import Json, with_table_limits
from affuse.errors import ConfigError

if TYPE_CHECKING:
    from affuse.batch.consent import Consent

__all__ = ["app"]

app = typer.Typer(
    help="Keep a ledger of who agreed to the analysis of which recording, and what for.",
    no_args_is_help=True,
)

_Ledger = Annotated[Path, typer.Argument(help="The ledger, a CSV file.", metavar="LEDGER")]
_Person = Annotated[str, typer.Option(help="Code of the person, such as P07; no name.")]
_Purpose = Annotated[
    str,
    typer.Option(help="What the person agreed to: a purpose of affuse analyze.", autocompletion=completion.purposes),
]


@app.command(cls=AffuseCommand, epilog=epilog("consent add"))
@with_table_limits
def add(
    ledger: _Ledger,
    recording: Annotated[Path, typer.Option(help="The recording; its checksum is kept, not its name.")],
    person: _Person,
    purpose: _Purpose,
    given: Annotated[str | None, typer.Option(help="Day of the consent, as 2026-03-31 (default: today).")] = None,
    until: Annotated[str | None, typer.Option(help="Last day on which it holds (default: without an end).")] = None,
) -> None:
    """Enter that a person agrees to the analysis of a recording; a new ledger is made."""
    from affuse.batch.consent import add_consent

    consent = add_consent(ledger, recording, person, purpose, _day("--given", given), _day("--until", until))
    end = f" until {consent.until}" if consent.until else ""
    typer.echo(f"{consent.person} agrees to the purpose {purpose} from {consent.given}{end}: added to {ledger}")


@app.command("list", cls=AffuseCommand, epilog=epilog("consent list"))
@with_table_limits
def list_consents(ledger: _Ledger, as_json: Json = False) -> None:
    """List the consents of a ledger, and whether they hold today."""
    from affuse.batch.consent import read_consents

    consents = read_consents(ledger)
    if as_json:
        rows = [consent.to_dict() | {"fault": consent.fault(date.today())} for consent in consents]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for line in _lines(consents):
        typer.echo(line)


@app.command(cls=AffuseCommand, epilog=epilog("consent withdraw"))
@with_table_limits
def withdraw(
    ledger: _Ledger,
    person: _Person,
    recording: Annotated[Path | None, typer.Option(help="The recording that it is about (default: all).")] = None,
    purpose: Annotated[
        str | None,
        typer.Option(help="The purpose that it is about (default: all).", autocompletion=completion.purposes),
    ] = None,
) -> None:
    """Enter that a person withdraws consent; the rows stay, with the date."""
    from affuse.batch.consent import withdraw_consent

    withdrawn = withdraw_consent(ledger, person, recording, purpose)
    typer.echo(f"{person}: {len(withdrawn)} of the consents in {ledger} withdrawn on {withdrawn[0].withdrawn}")


def _lines(consents: Sequence[Consent]) -> list[str]:
    today = date.today()
    return [
        f"{c.sha256[:12]}  {c.person}  {c.purpose}  from {c.given}: {c.fault(today) or 'holds today'}" for c in consents
    ]


def _day(flag: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{flag} {text}: a date is needed, such as 2026-03-31") from None
