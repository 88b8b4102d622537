"""What a training is told: frozen tables, read from TOML, checked key by key, and written down as they were used."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from affuse.data.own.samples import MODALITIES, DataOptions
from affuse.errors import ConfigError

__all__ = [
    "DataConfig",
    "DeviceConfig",
    "NetworkConfig",
    "TrainConfig",
    "TrainingConfig",
    "as_table",
    "build",
    "read_config",
    "resolve",
    "with_values",
    "write_config",
]

T = TypeVar("T")

Imbalance = Literal["none", "weights", "sampler"]
Schedule = Literal["one-cycle", "cosine", "constant"]


@dataclass(frozen=True)
class DataConfig:
    """Table ``[data]``: what is learned from."""

    source: str
    """A folder, a manifest (CSV, TSV, Parquet) or the name of a known corpus."""
    modality: Literal["voice", "face", "text", "joint"]
    """What the expert judges."""
    choose: float = 0.15
    """Share of the train part, in whole speakers, that stops training and sets the temperature; valid only reports."""
    seconds: float = 3.0
    """Length of the pieces of sound that are learned from; longer clips are cut anew every epoch."""
    reading: DataOptions = field(default_factory=DataOptions)
    """Table ``[data.reading]``: how rows are read."""

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ConfigError(f"data.modality must be one of {', '.join(MODALITIES)}; got {self.modality!r}")
        _between("data.choose", self.choose, 0.01, 0.5)
        _between("data.seconds", self.seconds, 0.5, 30)


@dataclass(frozen=True)
class NetworkConfig:
    """Table ``[network]``: what learns."""

    name: str | None = None
    """Name of a network (`affuse.training.networks.names`); by modality where it is not given."""
    start: Path | None = None
    """Weights to start from, such as self-supervised pre-training leaves (safetensors)."""
    tokenizer: Path | None = None
    """``tokenizer.json`` of a text network; else the pretrained network's, or one is trained on the texts."""
    vocabulary: int = 8000
    """Tokens of a tokenizer that is trained here."""
    max_tokens: int = 128
    """Tokens after which a text is cut."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Table ``[network.options]``: options of the network."""

    def __post_init__(self) -> None:
        _between("network.vocabulary", self.vocabulary, 100, 1_000_000)
        _between("network.max_tokens", self.max_tokens, 8, 4096)


@dataclass(frozen=True)
class TrainingConfig:
    """Table ``[training]``: how it learns. What is None goes by modality (`resolve`)."""

    epochs: int | None = None
    """Passes over the data at most."""
    patience: int | None = 10
    """Epochs without a better ``monitor`` after which training stops; 0 trains for all epochs."""
    monitor: Literal["val_loss", "val_accuracy", "val_uar"] = "val_loss"
    """Whose best epoch is kept: loss, accuracy or unweighted average recall on the rows set aside (``choose``)."""
    batch_size: int | None = None
    """Rows a batch and device."""
    accumulate: int = 1
    """Batches a step of the optimiser."""
    learning_rate: float | None = None
    """Largest rate of AdamW."""
    weight_decay: float = 0.01
    """Of AdamW."""
    schedule: Schedule = "one-cycle"
    """Course of the rate: up and down along half a cosine, down only after the warm-up, or level after it."""
    warmup: float = 0.1
    """Share of all steps over which the rate rises."""
    layer_decay: float = 1.0
    """Factor of the rate from each layer to the one before it, for transfer; 1 treats all alike."""
    freeze_until: int = 0
    """Epoch before which everything but the head stays as it is, for transfer."""
    label_smoothing: float = 0.0
    """Share of a target that is spread over all labels."""
    imbalance: Imbalance = "weights"
    """Rare labels: left alone, weighted in the loss, or drawn more often; both by the square root of their rarity."""
    mixup: float = 0.0
    """Alpha of mixup (arXiv:1710.09412) of sound or pictures; 0 mixes nothing."""
    gradient_clip: float | None = 1.0
    """Largest norm of the gradients; 0 clips nothing."""
    ema_decay: float | None = None
    """Of the moving average of the weights, which is what is kept; 0 keeps none."""
    seed: int = 0
    """Of everything that is drawn."""
    deterministic: bool = True
    """Only kernels that give the same result every time, so that a run can be repeated."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None:
                _between(f"training.{name}", value, 1, 1_000_000)
        _between("training.accumulate", self.accumulate, 1, 10_000)
        if self.learning_rate is not None and not 0 < self.learning_rate <= 10:
            raise ConfigError(f"training.learning_rate must be above 0 and at most 10; got {self.learning_rate:g}")
        for name, high in (("warmup", 0.9), ("label_smoothing", 0.9), ("mixup", 10.0)):
            _between(f"training.{name}", getattr(self, name), 0, high)
        _between("training.weight_decay", self.weight_decay, 0, 10)
        _between("training.layer_decay", self.layer_decay, 0.01, 1)
        _between("training.freeze_until", self.freeze_until, 0, 1_000_000)
        _between("training.patience", self.patience or 0, 0, 1_000_000)
        _between("training.gradient_clip", self.gradient_clip or 0, 0, 1e6)
        _between("training.ema_decay", self.ema_decay or 0, 0, 0.99999)
        _between("training.seed", self.seed, 0, 2**32 - 1)


@dataclass(frozen=True)
class DeviceConfig:
    """Table ``[device]``: where it learns, in the words of Lightning's Trainer, and where progress goes."""

    accelerator: str = "auto"
    """"cpu", "gpu", or what is there."""
    devices: int = 1
    """Processes a machine, each on a device of its own."""
    nodes: int = 1
    """Machines; every one starts the same command (see Lightning on clusters)."""
    strategy: str = "auto"
    """How devices share the work, such as "ddp"."""
    precision: str = "32-true"
    """Such as "bf16-mixed" or "16-mixed"."""
    threads: int = 1
    """Threads of torch on a CPU; another number may change the last digits of a run."""
    logger: Literal["csv", "tensorboard", "wandb"] | None = None
    """Logger beside the run folder's own curves."""

    def __post_init__(self) -> None:
        for name in ("devices", "nodes", "threads"):
            _between(f"device.{name}", getattr(self, name), 1, 4096)


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run is told: the TOML file as a whole."""

    data: DataConfig
    """What is learned from."""
    name: str | None = None
    """Name of the expert; else the data's."""
    licence: str | None = None
    """Licence of the data, for the card; known for corpora known by name."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """What learns."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How it learns."""
    augmentation: Mapping[str, Mapping[str, Any]] | None = None
    """Tables ``[augmentation.sound]``, ``.spectrum``, ``.picture`` and ``.words``; a mild default where None."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """Where it learns."""
    search: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Table ``[search]`` of ``affuse tune``: options by dotted name, each with low and high, or choices."""


# What a network from scratch needs on some thousand rows, by modality.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "voice": {"network": "crnn", "epochs": 40, "batch_size": 32, "learning_rate": 2e-3, "ema_decay": 0.99},
    "face": {"network": "small-face", "epochs": 24, "batch_size": 64, "learning_rate": 2e-3, "ema_decay": 0.998},
    "text": {"network": "text-cnn", "epochs": 12, "batch_size": 64, "learning_rate": 3e-3, "ema_decay": 0.0},
    "joint": {"network": "concat", "epochs": 40, "batch_size": 32, "learning_rate": 2e-3, "ema_decay": 0.99},
}

# Pretrained networks are spoilt by the rates of those from scratch.
_TUNED: dict[str, tuple[int, int, dict[str, float]]] = {  # epochs, rows a batch, and the rate by what is tuned
    "transformer": (4, 32, {"full": 2e-4, "lora": 2e-3, "head": 1e-2}),
    "wav2vec2": (12, 16, {"full": 1e-4, "head": 1e-2}),
}

_AUGMENTATION: dict[str, dict[str, dict[str, Any]]] = {
    "voice": {
        "sound": {"noise_snr": [5.0, 30.0], "speed": [0.9, 1.1], "gain": [-6.0, 6.0], "probability": 0.5},
    },
    "face": {
        "picture": {
            "flip": 0.5,
            "rotation": 15.0,
            "scale": 0.15,
            "shift": 0.1,
            "brightness": 0.4,
            "occlusion": [0.02, 0.15],
        },
    },
    "text": {"words": {"drop": 0.1}},
}
_AUGMENTATION["joint"] = _AUGMENTATION["voice"] | _AUGMENTATION["face"] | _AUGMENTATION["text"]


def resolve(config: TrainConfig) -> TrainConfig:
    """The same with what goes by modality and network filled in, as it is written into the run folder."""
    own = dict(_DEFAULTS[config.data.modality])
    network = dataclasses.replace(config.network, name=config.network.name or own["network"])
    own |= _tuned(network)
    del own["network"]
    missing = {key: value for key, value in own.items() if getattr(config.training, key) is None}
    augmentation = config.augmentation
    if augmentation is None:
        augmentation = _AUGMENTATION[config.data.modality]
    return dataclasses.replace(
        config,
        data=_absolute(config.data),
        network=network,
        training=dataclasses.replace(config.training, **missing),
        augmentation=augmentation,
    )


def _tuned(network: NetworkConfig) -> dict[str, Any]:
    """What a pretrained network needs; nothing for one from scratch."""
    if network.name not in _TUNED or network.options.get("pretrained") == "none":
        return {}
    epochs, batch_size, rates = _TUNED[network.name]
    rate = rates.get(network.options.get("tuning", "full"), rates["full"])
    return {"epochs": epochs, "batch_size": batch_size, "learning_rate": rate}


def _absolute(data: DataConfig) -> DataConfig:
    """Paths that mean the same wherever the frozen configuration is read."""
    source = str(Path(data.source).resolve()) if Path(data.source).exists() else data.source
    folder = data.reading.folder
    reading = data.reading if folder is None else dataclasses.replace(data.reading, folder=folder.resolve())
    return dataclasses.replace(data, source=source, reading=reading)


def read_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The configuration in a TOML file, with ``overrides`` such as "training.seed=1" over it.

    Paths in it are taken relative to the file. Raises ConfigError where the file is missing, is no TOML, or where a
    key or value does not fit.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    table = with_values(table, overrides)
    try:
        config = build(TrainConfig, table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return _relative_to(config, path.parent)


def with_values(table: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``table`` with values set by dotted name, each written as in TOML; bare words are strings.

    Raises ConfigError for what is not NAME=VALUE.
    """
    changed = _copy(table)
    for override in overrides:
        name, sign, text = override.partition("=")
        keys = name.strip().split(".")
        if not sign or not all(keys):
            raise ConfigError(f"--set takes NAME=VALUE such as training.learning_rate=0.001; got {override!r}")
        place = changed
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {override}: {key} is no table")
        place[keys[-1]] = _value(text.strip())
    return changed


def as_table(value: Any) -> Any:
    """What TOML can hold of a configuration; options that are None are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs: Iterable[tuple[str, Any]] = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list | tuple):
        return [as_table(item) for item in value]
    else:
        return str(value) if isinstance(value, Path) else value
    return {key: as_table(item) for key, item in pairs if item is not None}


def write_config(config: TrainConfig, path: Path) -> None:
    """Write ``config`` as TOML that `read_config` reads back as the same; raises OutputError where it cannot."""
    import tomli_w

    from affuse.files import replacing

    with replacing(path) as (part,):
        part.write_text(tomli_w.dumps(as_table(config)), encoding="utf-8")


def build(kind: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """A dataclass from a table of TOML.

    Raises ConfigError, naming the key, its table and near matches, for an unknown key, a missing one or a value of
    another kind.
    """
    known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    renamed: Mapping[str, str] = getattr(kind, "renamed", {})
    table = {renamed.get(key, key): value for key, value in table.items()}
    place = f"[{where}]" if where else "the configuration"
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"unknown option {key!r} in {place}; {hint}")
    for key, entry in known.items():
        needed = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if needed and key not in table:
            raise ConfigError(f"{place} needs the option {key!r}")
    hints = get_type_hints(kind)
    return kind(**{key: _converted(hints[key], value, _dotted(where, key)) for key, value in table.items()})


def _converted(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (hint,) = (a for a in arguments if a is not type(None))
        return _converted(hint, value, where)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}; got {value!r}")
        return value
    if dataclasses.is_dataclass(hint):
        _check(isinstance(value, Mapping), where, "a table", value)
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        _check(isinstance(value, list | tuple), where, "a list", value)
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        _check(len(kinds) == len(value), where, f"a list of {len(kinds)}", value)
        return tuple(_converted(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if hint is Any:
        return value
    return _plain(origin or hint, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    """``value`` as bool, int, float, str, Path or a table."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path:
        _check(isinstance(value, str | Path), where, "a path", value)
        return Path(value)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    _check(fits, where, names.get(kind, "a table"), value)
    return value


def _check(fits: bool, where: str, expected: str, value: Any) -> None:
    if not fits:
        raise ConfigError(f"{where} must be {expected}; got {value!r}")


def _between(where: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{where} must lie between {low:g} and {high:g}; got {value:g}")


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in table.items()}


def _relative_to(config: TrainConfig, folder: Path) -> TrainConfig:
    """Paths of a configuration file as seen from where the command runs."""
    data, network = config.data, config.network
    own = {key: folder / path for key in ("start", "tokenizer") if (path := getattr(network, key)) is not None}
    beside = folder / data.source
    reading = data.reading
    if reading.folder is not None:
        reading = dataclasses.replace(reading, folder=folder / reading.folder)
    source = str(beside) if beside.exists() else data.source
    return dataclasses.replace(
        config,
        data=dataclasses.replace(data, source=source, reading=reading),
        network=dataclasses.replace(network, **own),
    )
