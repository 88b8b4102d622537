"""What a training is told: frozen tables, read from TOML, checked key by key, and written down as they were used."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from affuse.data.own.samples import DataOptions
from affuse.errors import ConfigError
from affuse.files import replacing
from affuse.training.schedules import Schedule
from affuse.training.settings import as_table, build, with_values

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

Imbalance = Literal["none", "weights", "sampler"]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Few = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True)
class DataConfig:
    """Table ``[data]``: what is learned from."""

    renamed: ClassVar[Mapping[str, str]] = {"choose": "held_out"}
    """Options of older configuration files, by the name that they have now."""

    source: str
    """A folder, a manifest (CSV, TSV, Parquet) or the name of a known corpus."""
    modality: Literal["voice", "face", "text", "joint"]
    """What the expert judges."""
    held_out: Annotated[float, Field(ge=0.01, le=0.5)] = 0.15
    """Share of train, in whole speakers, that stops training and sets the temperature; dev and test only report."""
    seconds: Annotated[float, Field(ge=0.5, le=30)] = 3.0
    """Length of the pieces of sound that are learned from; longer clips are cut anew every epoch."""
    reading: DataOptions = field(default_factory=DataOptions)
    """Table ``[data.reading]``: how rows are read."""


@dataclass(frozen=True)
class NetworkConfig:
    """Table ``[network]``: what learns."""

    name: str | None = None
    """Name of a network (`affuse.training.networks.names`); by modality where it is not given."""
    start: Path | None = None
    """Weights to start from, such as self-supervised pre-training leaves (safetensors)."""
    tokenizer: Path | None = None
    """``tokenizer.json`` of a text network; else the pretrained network's, or one is trained on the texts."""
    vocabulary: Annotated[int, Field(ge=100, le=1_000_000)] = 8000
    """Tokens of a tokenizer that is trained here."""
    max_tokens: Annotated[int, Field(ge=8, le=4096)] = 128
    """Tokens after which a text is cut."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Table ``[network.options]``: options of the network."""


@dataclass(frozen=True)
class TrainingConfig:
    """Table ``[training]``: how it learns. What is None goes by modality (`resolve`)."""

    epochs: Count | None = None
    """Passes over the data at most."""
    patience: Annotated[int, Field(ge=0, le=1_000_000)] | None = 10
    """Epochs without a better ``monitor`` after which training stops; 0 trains for all epochs."""
    monitor: Literal["val_loss", "val_accuracy", "val_uar"] = "val_loss"
    """Whose best epoch is kept: loss, accuracy or unweighted average recall on the rows set aside (``held_out``)."""
    batch_size: Count | None = None
    """Rows a batch and device."""
    accumulate: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Batches a step of the optimiser."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None
    """Largest rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01
    """Of AdamW."""
    schedule: Schedule = "one-cycle"
    """Course of the rate: up and down along half a cosine, down only after the warm-up, or level after it."""
    warmup: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """Share of all steps over which the rate rises."""
    layer_decay: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    """Factor of the rate from each layer to the one before it, for transfer; 1 treats all alike."""
    freeze_until: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Epoch before which everything but the head stays as it is, for transfer."""
    label_smoothing: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Share of a target that is spread over all labels."""
    imbalance: Imbalance = "weights"
    """Rare labels: left alone, weighted in the loss, or drawn more often; both by the square root of their rarity."""
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Alpha of mixup (arXiv:1710.09412) of sound or pictures; 0 mixes nothing."""
    gradient_clip: Annotated[float, Field(ge=0, le=1e6)] | None = 1.0
    """Largest norm of the gradients; 0 clips nothing."""
    ema_decay: Annotated[float, Field(ge=0, le=0.99999)] | None = None
    """Of the moving average of the weights, which is what is kept; 0 keeps none."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Of everything that is drawn."""
    deterministic: bool = True
    """Only kernels that give the same result every time, so that a run can be repeated."""


@dataclass(frozen=True)
class DeviceConfig:
    """Table ``[device]``: where it learns, in the words of Lightning's Trainer, and where progress goes."""

    accelerator: str = "auto"
    """"cpu", "gpu", or what is there."""
    devices: Few = 1
    """Processes a machine, each on a device of its own."""
    nodes: Few = 1
    """Machines; every one starts the same command (see Lightning on clusters)."""
    strategy: str = "auto"
    """How devices share the work, such as "ddp"."""
    precision: str = "32-true"
    """Such as "bf16-mixed" or "16-mixed"."""
    threads: Few = 1
    """Threads of torch on a CPU; another number may change the last digits of a run."""
    logger: Literal["csv", "tensorboard", "wandb"] | None = None
    """Logger beside the run folder's own curves."""


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


def write_config(config: TrainConfig, path: Path) -> None:
    """Write ``config`` as TOML that `read_config` reads back as the same; raises OutputError where it cannot."""
    import tomli_w

    with replacing(path) as (part,):
        part.write_text(tomli_w.dumps(as_table(config)), encoding="utf-8")


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
