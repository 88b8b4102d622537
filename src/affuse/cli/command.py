"""The class of all commands: examples at the end of the help, and flags by their former names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["EXAMPLES", "RENAMED", "AffuseCommand", "current_flags", "epilog"]

EXAMPLES: dict[str, tuple[str, str]] = {
    "adapt": (
        "affuse adapt --manifest clips.csv --out my.fuser",
        "affuse adapt --manifest clips.csv --experts text --out my.fuser --json",
    ),
    "analyze": (
        "affuse analyze interview.mp4 --transcript interview.srt --out results",
        'affuse analyze --text "I am so happy, thank you!" --json',
    ),
    "batch": (
        "affuse batch clips.csv --out study --workers 2",
        "affuse batch recordings --out study --time-limit 600 --retry-errors",
    ),
    "bench": (
        "affuse bench --threads 1 --times 20 --analyses 2",
        "affuse bench --package exported --clip interview.mp4 --json",
    ),
    "compare": (
        "affuse compare --manifest predictions.csv --group speaker --methods mean,log_pool --seeds 1",
        "affuse compare --manifest clips.csv --features bag-of-words --seeds 1",
    ),
    "consent add": (
        "affuse consent add consent.csv --recording clip.mp4 --person P07 --purpose research",
        "affuse consent add consent.csv --recording clip.mp4 --person P07 --purpose research --until 2027-12-31",
    ),
    "consent list": ("affuse consent list consent.csv", "affuse consent list consent.csv --json"),
    "consent withdraw": (
        "affuse consent withdraw consent.csv --person P07",
        "affuse consent withdraw consent.csv --person P07 --recording clip.mp4 --purpose research",
    ),
    "evaluate": (
        "affuse evaluate --manifest clips.csv --experts text --by sex --report report",
        "affuse evaluate --expert voice --dataset ravdess --data datasets --split dev",
    ),
    "export": (
        "affuse export shipped --to onnx --out exported",
        "affuse export runs/mine/package --to onnx-int8 --data datasets --out small",
    ),
    "features list": ("affuse features list --modality text", "affuse features list --json"),
    "features extract": (
        "affuse features extract --features bag-of-words --manifest clips.csv --out features.csv",
        "affuse features extract folder --features mfcc --set mfcc.coefficients=20 --out features.parquet",
    ),
    "federate certificates": (
        "affuse federate certificates anna ben --server-name localhost --out trial",
        "affuse federate certificates a b --server-name 192.0.2.7 --server-name a.example.org --out trial --days 90",
    ),
    "federate client": (
        "affuse federate client --manifest mine.csv --server study.example.org:8443 --name anna --tls-ca ca.pem "
        "--client-key anna.key",
        "affuse federate client --kind fuser --manifest face.csv,voice.csv --server localhost:8443 --name ben",
    ),
    "federate server": (
        "affuse federate server --clients 5 --host 0.0.0.0 --tls-cert server.pem --tls-key server.key --tls-ca ca.pem "
        "--trusted trusted --out runs/together",
        "affuse federate server --clients 5 --fewest 4 --aggregation trimmed-mean --rounds 30 --out runs/together",
    ),
    "federate simulate": (
        "affuse federate simulate a.csv b.csv c.csv --out runs/rehearsal",
        "affuse federate simulate a.csv b.csv c.csv --secure --epsilon 8 --set epochs=1 --out runs/private",
    ),
    "forget": (
        "affuse forget interview.mp4 --in results --in study",
        "affuse forget interview.mp4 --in study --dry-run",
    ),
    "fuse": (
        "affuse fuse face.csv voice.csv --labels labels.csv --group speaker --out fused.csv --save my.fuser",
        "affuse fuse face.csv voice.csv --fuser my.fuser --out fused.parquet",
    ),
    "import": (
        "affuse import results/clip.eaf --recording clip.mp4 --out manifest.csv",
        "affuse import project.json --recording recordings --out manifest.csv",
    ),
    "models list": ("affuse models list", "affuse models list --help"),
    "models verify": ("affuse models verify", "AFFUSE_MODELS=folder affuse models verify"),
    "models download": ("affuse models download yunet", "affuse models download --all"),
    "models use": ("affuse models use commercial", "affuse models use research"),
    "models licences": ("affuse models licences", "affuse models licences --help"),
    "notice": (
        'affuse notice --purpose research --controller "Example University" --retention 365 --out notice.md',
        "affuse notice --language zh --experts voice,text",
    ),
    "people enrol": (
        "affuse people enrol Anna anna.mp4 --gallery people",
        "affuse people enrol Anna anna.mp4 voice.wav --gallery people --key-file key.txt",
    ),
    "people find": (
        "affuse people find meeting.mp4 --gallery people",
        "affuse people find meeting.mp4 --gallery people --false-accept-rate 0.001 --json",
    ),
    "people forget": (
        "affuse people forget Anna --gallery people",
        "affuse people forget Anna --gallery people --key-file key.txt",
    ),
    "people list": ("affuse people list --gallery people", "affuse people list --gallery people --json"),
    "people setup": ("affuse people setup", "affuse people setup --out models"),
    "schema": ("affuse schema", "affuse schema > schema.json"),
    "serve": (
        "affuse serve --port 8080",
        "affuse serve --package exported --workers 2 --private",
    ),
    "train": (
        "affuse train --manifest recordings --modality voice --out runs/mine",
        "affuse train --dataset ravdess --data datasets --modality voice --epochs 20 --out runs/ravdess",
    ),
    "tune": (
        "affuse tune face.csv voice.csv --labels labels.csv --group speaker --trials 30 --save my.fuser",
        "affuse tune --train config.toml --trials 10 --out best.toml",
    ),
}
"""Two real examples of every command, which its help shows and the tests parse."""

RENAMED: dict[str, dict[str, str]] = {
    "analyze": {"--bundle": "--package", "--features": "--feature-table"},
    "bench": {"--bundle": "--package"},
    "evaluate": {"--bundle": "--package"},
    "features extract": {"--name": "--features", "--option": "--set"},
    "fuse": {"--load": "--fuser"},
    "serve": {"--bundle": "--package"},
    "train": {"--bundle": "--package", "--corpus": "--dataset"},
    "tune": {"--folds": "--n-folds"},
}
"""Former names of flags by command; they are still taken, and a line on standard error says the new one."""


def current_flags(command: str, arguments: Sequence[str]) -> list[str]:
    """``arguments`` with former flags by their names of today; each one is told on standard error."""
    renamed = dict(RENAMED.get(command, {}))
    if command == "train" and not {"--dataset", "--corpus"} & {a.partition("=")[0] for a in arguments}:
        renamed["--data"] = "--manifest"  # a folder of one's own; --data is the folder of the known corpora
    found = []
    options = True
    for argument in arguments:
        options = options and argument != "--"
        flag, equals, value = argument.partition("=")
        new = renamed.get(flag) if options else None
        if new is not None:
            typer.echo(f"affuse: {flag} is now called {new}", err=True)
        found.append(argument if new is None else f"{new}{equals}{value}")
    return found


def epilog(command: str) -> str:
    """The examples of a command, as the end of its help."""
    return "\n".join(["\b", "Examples:", *(f"  {example}" for example in EXAMPLES[command])])


class AffuseCommand(TyperCommand):
    """A command that knows the former names of its flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments, former flags by their new names."""
        group = ctx.parent.info_name if ctx.parent is not None and ctx.parent.parent is not None else None
        name = f"{group} {self.name}" if group else str(self.name)
        return super().parse_args(ctx, current_flags(name, args))
