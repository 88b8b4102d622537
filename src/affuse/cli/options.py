"""The options of all commands: one name has one meaning everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from affuse.budget import DEFAULT_BUDGET, Budget, within_budget
from affuse.cli import completion
from affuse.errors import ConfigError
from affuse.purpose import FORBIDDEN, PURPOSES

if TYPE_CHECKING:
    from affuse.analyzer.analyzer import Analyzer

__all__ = [
    "LIMITS",
    "Adapt",
    "AdaptPerson",
    "AsrModel",
    "Context",
    "Corpus",
    "Data",
    "Exemption",
    "ExpertLabelMap",
    "Experts",
    "FeatureNames",
    "FeatureTable",
    "Formats",
    "Fuser",
    "Group",
    "Hop",
    "IdColumn",
    "Json",
    "LabelMap",
    "Language",
    "Logits",
    "Methods",
    "NumberOfSpeakers",
    "Package",
    "PriorOption",
    "PurposeOption",
    "Seed",
    "Settings",
    "SharedVoice",
    "Split",
    "Transcribe",
    "WeightSet",
    "Window",
    "analyzer_of",
    "check_lengths",
    "names_of",
    "parse_experts",
    "with_limits",
    "with_table_limits",
]

# --- what is read -----------------------------------------------------------------------------------------------------

Data = Annotated[
    Path | None, typer.Option("--data", help="Folder that holds the known datasets.", envvar="AFFUSE_DATA")
]
Corpus = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Known corpus by name, such as ravdess or ferplus, in the folder --data.",
        autocompletion=completion.corpora,
    ),
]
Split = Annotated[
    str,
    typer.Option(
        "--split",
        help="Split of the dataset: train, dev (also called valid) or test.",
        autocompletion=completion.splits,
    ),
]
FeatureNames = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="Names of features, with commas; see: affuse features list.",
        autocompletion=completion.features,
    ),
]
FeatureTable = Annotated[
    Path | None,
    typer.Option("--feature-table", help="Table of numbers for a joint expert that reads some, a row a recording."),
]
Group = Annotated[
    str | None, typer.Option("--group", help="Column of the true labels that must not be split, such as the speaker.")
]
IdColumn = Annotated[
    str | None, typer.Option("--id", help="Column that names the rows (default: the first named id, clip or name).")
]
Logits = Annotated[bool, typer.Option("--logits", help="The files hold logits: take their softmax.")]
LabelMap = Annotated[
    Path | None,
    typer.Option(
        "--label-map",
        "--map",
        help='TOML with new names of labels: angry = "anger"; under [voice] for that file alone.',
    ),
]

# --- who answers ------------------------------------------------------------------------------------------------------

Package = Annotated[
    Path | None,
    typer.Option("--package", help="Use the experts and the fuser of this folder, which affuse export wrote."),
]
Experts = Annotated[
    str | None,
    typer.Option(
        "--experts",
        help="Which experts to ask, for example face,voice or voice=runs/mine/package (default: all).",
        autocompletion=completion.modalities,
    ),
]
Fuser = Annotated[
    Path | None,
    typer.Option("--fuser", help="Folder of a fitted fuser, from affuse fuse --save, tune --save or adapt --out."),
]
WeightSet = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Set of the shipped weights: research, or commercial for those that learned from data for commercial use "
        "alone (default: AFFUSE_WEIGHTS, then what affuse models use keeps, then research).",
        autocompletion=completion.weight_sets,
    ),
]
PriorOption = Annotated[
    str | None,
    typer.Option(
        "--prior",
        help="What is expected beforehand: dialogue, uniform, tempered or a file (default: the fuser's).",
        autocompletion=completion.priors,
    ),
]
Context = Annotated[
    str | None, typer.Option("--context", help="Context of the recordings, where the prior knows some.")
]
Adapt = Annotated[
    str,
    typer.Option(
        "--adapt",
        help="Take out, without labels, what shifts the answers: none, person (each recording's, or the column person "
        "of a manifest) or collection (what all recordings share, then each person's; they must show mixed emotions).",
        autocompletion=completion.adaptations,
    ),
]
AdaptPerson = Annotated[
    str,
    typer.Option(
        "--adapt",
        help="Take out, without labels, what shifts the answers: none, or person (--group names persons).",
        autocompletion=completion.person_adaptations,
    ),
]
Methods = Annotated[
    str | None,
    typer.Option("--methods", help="Fusers by name, with commas (default: all).", autocompletion=completion.methods),
]
Window = Annotated[float | None, typer.Option("--window", help="Length of a window in seconds (default 3).")]
Hop = Annotated[float | None, typer.Option("--hop", help="Seconds from one window to the next (default 1).")]
Language = Annotated[
    str | None,
    typer.Option("--language", help="Code of the language of the words, such as en or de (default: recognised)."),
]
Transcribe = Annotated[
    bool, typer.Option("--transcribe", help="Recognise the words of recordings without a transcript (extra asr).")
]
ExpertLabelMap = Annotated[
    Path | None,
    typer.Option(help='TOML that says what own labels of experts mean, with lines such as engaged = "happiness".'),
]
SharedVoice = Annotated[
    bool, typer.Option("--shared-voice", help="Count the voice and the words for everybody, whoever speaks.")
]
NumberOfSpeakers = Annotated[
    int | None,
    typer.Option(
        "--speakers",
        help="How many people speak, 1 to 20: voices are told apart where no names, channels or faces tell who speaks "
        "(needs: affuse people setup).",
    ),
]
AsrModel = Annotated[
    Path | None,
    typer.Option(
        "--asr-model",
        help="Whisper model for --transcribe: a folder (default: AFFUSE_WHISPER, an installed package, the hub).",
    ),
]

# --- what for ---------------------------------------------------------------------------------------------------------

PurposeOption = Annotated[
    str | None,
    typer.Option(
        "--purpose",
        help=f"What this is for, which every result states: {', '.join(PURPOSES)}. Without an exemption, "
        f"{' and '.join(FORBIDDEN)} are refused: Art. 5(1)(f) of the EU's AI Act forbids them.",
        autocompletion=completion.purposes,
    ),
]
Exemption = Annotated[
    str | None,
    typer.Option(
        "--exemption",
        help="Why people are analysed at work or in education all the same: medical or safety reasons.",
        autocompletion=completion.exemptions,
    ),
]

# --- how, and what comes out ------------------------------------------------------------------------------------------

Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.", min=0)]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="NAME=VALUE: any other setting; may be given several times.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables and sentences.")]


Formats = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Formats of the files in --out, with commas: json, csv, parquet, html (these four by default), xlsx, "
        "elan, textgrid, srt, vtt, audacity, labelstudio.",
        autocompletion=completion.formats,
    ),
]

# --- how much is read -------------------------------------------------------------------------------------------------


_LIMITS = {
    "max_duration": "Longest recording and latest time of a transcript or a label, in seconds",
    "max_pixels": "Most pixels of a picture or a frame",
    "max_frames": "Most frames of a video",
    "max_packets": "Most coded pieces of video and sound",
    "max_cues": "Most cues or words of a transcript, or labels of a corrected file",
    "max_text": "Largest transcript or corrected file in bytes",
    "max_windows": "Most windows of an analysis",
    "max_window_seconds": "Most seconds that all windows hold together",
    "max_answers": "Most windows times speakers that a transcript names",
    "max_rows": "Most rows of a table",
    "max_table_bytes": "Largest table in bytes, Excel and Parquet unpacked",
}


def _limit(name: str, default: float) -> Any:
    flag, text = f"--{name.replace('_', '-')}", f"{_LIMITS[name]} ({default:.0f})."
    kind = float | None if isinstance(default, float) else int | None
    return Annotated[kind, typer.Option(flag, help=text, min=1, rich_help_panel="Limits")]


LIMITS: dict[str, Any] = {name: _limit(name, getattr(DEFAULT_BUDGET, name)) for name in _LIMITS}
"""An option for every field of `affuse.budget.Budget`, by its name."""


def with_limits(
    command: Callable[..., None], names: Sequence[str] = tuple(LIMITS), default: Budget = DEFAULT_BUDGET
) -> Callable[..., None]:
    """A command with `LIMITS` as further options, within which it opens recordings and tables.

    A command that has a parameter ``budget`` gets the `affuse.budget.Budget` that they state.
    """
    own = {name: hint for name, hint in command.__annotations__.items() if name not in ("budget", "return")}
    hints = get_type_hints(type("", (), {"__annotations__": own}), command.__globals__, include_extras=True)
    hints |= {name: _limit(name, getattr(default, name)) for name in names}
    parameters = signature(command).parameters

    @wraps(command)
    def call(**given: Any) -> None:
        limits = {name: given.pop(name) for name in names}
        stated = {name: value for name, value in limits.items() if value is not None}
        with within_budget(replace(default, **stated)) as budget:
            command(**given, **({"budget": budget} if "budget" in parameters else {}))

    taken = [p.replace(annotation=hints[p.name]) for p in parameters.values() if p.name != "budget"]
    added = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=hints[name]) for name in names]
    call.__signature__ = Signature([*taken, *added])  # type: ignore[attr-defined]
    call.__annotations__ = hints
    return call


def with_table_limits(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the limits of tables as further options, within which it opens tables."""
    return with_limits(command, ("max_rows", "max_table_bytes"))


# --- reading them -----------------------------------------------------------------------------------------------------


def names_of(option: str | None) -> list[str] | None:
    """Names from "a,b"; None from None."""
    return None if option is None else [part.strip() for part in option.split(",") if part.strip()]


def parse_experts(option: str | None) -> dict[str, str] | None:
    """Experts by modality from "face,voice=NAME,joint=FOLDER"; None, the shipped ones, from None.

    Raises ConfigError for a modality without a shipped expert where none is named, and for one that is named twice.
    """
    from affuse.experts import DEFAULT_EXPERTS

    if option is None:
        return None
    chosen: dict[str, str] = {}
    for part in option.split(","):
        modality, _, name = part.strip().partition("=")
        if modality in chosen:
            raise ConfigError(f"--experts names {modality} twice; one expert reads a modality")
        if not name and modality not in DEFAULT_EXPERTS:
            raise ConfigError(
                f"unknown modality {modality!r} in --experts; known: {', '.join(DEFAULT_EXPERTS)}, "
                "or name its expert, for example joint=FOLDER"
            )
        chosen[modality] = name or DEFAULT_EXPERTS[modality]
    return chosen


def analyzer_of(
    *,
    experts: str | None,
    window: float | None,
    hop: float | None,
    language: str | None,
    transcribe: bool,
    asr_model: Path | None,
    package: Path | None = None,
    feature_table: Path | None = None,
    fuser: Path | None = None,
    prior: str | None = None,
    context: str | None = None,
    label_map: Path | None = None,
    purpose: str | None = None,
    exemption: str | None = None,
    weights: str | None = None,
) -> Analyzer:
    """The analyzer that these options ask for. Raises ConfigError where they do not fit."""
    check_lengths(window, hop)
    chosen = parse_experts(experts)
    from affuse.analyzer.analyzer import make_analyzer  # brings the decoders and networks, which --help does without

    analyzer = make_analyzer(
        package,
        chosen,
        window,
        hop,
        language,
        feature_table,
        fuser=fuser,
        prior=prior,
        context=context,
        label_map=label_map,
        purpose=purpose,
        exemption=exemption,
        weights=weights,
    )
    if transcribe or asr_model is not None:
        from affuse.experts.transcribe import Transcriber

        analyzer.transcriber = Transcriber(asr_model, language)
    return analyzer


def check_lengths(window: float | None, hop: float | None) -> None:
    """Raise ConfigError where --window and --hop do not fit."""
    from affuse.timeline import DEFAULT_WINDOW  # brings NumPy, which --help does without

    for name, value in (("--window", window), ("--hop", hop)):
        if value is not None and not 0.1 <= value <= 3600:
            raise ConfigError(f"{name} must lie between 0.1 and 3600 seconds; got {value:g}")
    length = window or DEFAULT_WINDOW
    if hop is not None and hop > length:
        raise ConfigError(f"--hop {hop:g} would leave gaps between windows of {length:g} s; use at most that")
