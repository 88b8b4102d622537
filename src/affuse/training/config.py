"""The configuration of a training: frozen tables, read from TOML, checked option by option."""

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
from affuse.files import write_text
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
    """Table ``[data]``: what is learned from.

    Attributes
    ----------
    source : str
        A folder, a manifest (CSV, TSV, Parquet) or the name of a known corpus.
    modality : {"voice", "face", "text", "joint"}
        What the expert judges.
    held_out : float
        Share of train, in whole speakers, that stops training and sets the temperature; dev and test only
        report.
    seconds : float
        Length of the pieces of sound that are learned from; longer clips are cut anew every epoch.
    reading : DataOptions
        Table ``[data.reading]``: how rows are read.

    Examples
    --------
    >>> DataConfig(source="clips.csv", modality="voice").held_out
    0.15
    """

    renamed: ClassVar[Mapping[str, str]] = {"choose": "held_out"}
    """Options of older configuration files, by the name that they have now."""

    source: str
    modality: Literal["voice", "face", "text", "joint"]
    held_out: Annotated[float, Field(ge=0.01, le=0.5)] = 0.15
    seconds: Annotated[float, Field(ge=0.5, le=30)] = 3.0
    reading: DataOptions = field(default_factory=DataOptions)


@dataclass(frozen=True)
class NetworkConfig:
    """Table ``[network]``: what learns.

    Attributes
    ----------
    name : str, optional
        Name of a network (`affuse.training.networks.names`); by modality where it is not given.
    start : Path, optional
        Weights to start from, such as self-supervised pre-training leaves (safetensors).
    tokenizer : Path, optional
        ``tokenizer.json`` of a text network; else the pretrained network's, or one is trained on the texts.
    vocabulary : int
        Tokens of a tokenizer that is trained here.
    max_tokens : int
        Tokens after which a text is cut.
    options : mapping
        Table ``[network.options]``: options of the network.

    Examples
    --------
    >>> NetworkConfig(name="crnn", options={"hidden": 32}).name
    'crnn'
    """

    name: str | None = None
    start: Path | None = None
    tokenizer: Path | None = None
    vocabulary: Annotated[int, Field(ge=100, le=1_000_000)] = 8000
    max_tokens: Annotated[int, Field(ge=8, le=4096)] = 128
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingConfig:
    """Table ``[training]``: how it learns. What is None goes by modality (`resolve`).

    Attributes
    ----------
    epochs : int, optional
        Passes over the data at most.
    patience : int, optional
        Epochs without a better ``monitor`` after which training stops; 0 trains for all epochs.
    monitor : {"val_loss", "val_accuracy", "val_uar"}
        Whose best epoch is kept: loss, accuracy or unweighted average recall on the rows set aside
        (``held_out``).
    batch_size : int, optional
        Rows a batch and device.
    accumulate : int
        Batches a step of the optimiser.
    learning_rate : float, optional
        Largest rate of AdamW.
    weight_decay : float
        Of AdamW.
    schedule : {"one-cycle", "cosine", "constant"}
        Course of the rate: up and down along half a cosine, down only after the warm-up, or level after it.
    warmup : float
        Share of all steps over which the rate rises.
    layer_decay : float
        Factor of the rate from each layer to the one before it, for transfer; 1 treats all alike.
    freeze_until : int
        Epoch before which everything but the head stays as it is, for transfer.
    label_smoothing : float
        Share of a target that is spread over all labels.
    imbalance : {"none", "weights", "sampler"}
        Rare labels: left alone, weighted in the loss, or drawn more often; both by the square root of their
        rarity.
    mixup : float
        Alpha of mixup (arXiv:1710.09412) of sound or pictures; 0 mixes nothing.
    adversarial : float
        Adversarial training on sound or pictures: in every second sample each number is moved against the network by so
        many standard deviations of the sample; 0 changes nothing. It doubles the time.
    gradient_clip : float, optional
        Largest norm of the gradients; 0 clips nothing.
    ema_decay : float, optional
        Of the moving average of the weights, which is what is kept; 0 keeps none.
    seed : int
        Of everything that is drawn.
    deterministic : bool
        Only kernels that give the same result every time, so that a run can be repeated.

    Examples
    --------
    >>> TrainingConfig(epochs=3, learning_rate=0.001).schedule
    'one-cycle'
    """

    epochs: Count | None = None
    patience: Annotated[int, Field(ge=0, le=1_000_000)] | None = 10
    monitor: Literal["val_loss", "val_accuracy", "val_uar"] = "val_loss"
    batch_size: Count | None = None
    accumulate: Annotated[int, Field(ge=1, le=10_000)] = 1
    learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01
    schedule: Schedule = "one-cycle"
    warmup: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    layer_decay: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    freeze_until: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    label_smoothing: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    imbalance: Imbalance = "weights"
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    adversarial: Annotated[float, Field(ge=0, le=1)] = 0.0
    gradient_clip: Annotated[float, Field(ge=0, le=1e6)] | None = 1.0
    ema_decay: Annotated[float, Field(ge=0, le=0.99999)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    deterministic: bool = True


@dataclass(frozen=True)
class DeviceConfig:
    """Table ``[device]``: where it learns, in the words of Lightning's Trainer, and where progress goes.

    Attributes
    ----------
    accelerator : str
        "cpu", "gpu", or what is there.
    devices : int
        Processes a machine, each on a device of its own.
    nodes : int
        Machines; every one starts the same command (see Lightning on clusters).
    strategy : str
        How devices share the work, such as "ddp".
    precision : str
        Such as "bf16-mixed" or "16-mixed".
    threads : int
        Threads of torch on a CPU; another number may change the last digits of a run.
    logger : {"csv", "tensorboard", "wandb"}, optional
        Logger beside the run folder's own curves.

    Examples
    --------
    >>> DeviceConfig(accelerator="gpu", precision="bf16-mixed").devices
    1
    """

    accelerator: str = "auto"
    devices: Few = 1
    nodes: Few = 1
    strategy: str = "auto"
    precision: str = "32-true"
    threads: Few = 1
    logger: Literal["csv", "tensorboard", "wandb"] | None = None


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run is told: the TOML file as a whole.

    Attributes
    ----------
    data : DataConfig
        What is learned from.
    name : str, optional
        Name of the expert; else the data's.
    licence : str, optional
        Licence of the data, for the card; known for corpora known by name.
    network : NetworkConfig
        What learns.
    training : TrainingConfig
        How it learns.
    augmentation : mapping of mappings, optional
        Tables ``[augmentation.sound]``, ``.spectrum``, ``.picture`` and ``.words``; a mild default where None.
    device : DeviceConfig
        Where it learns.
    search : mapping
        Table ``[search]`` of ``affuse tune``: options by dotted name, each with low and high, or choices.

    Examples
    --------
    >>> config = TrainConfig(data=DataConfig(source="clips.csv", modality="voice"))
    >>> config.training.monitor
    'val_loss'
    """

    data: DataConfig
    name: str | None = None
    licence: str | None = None
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    augmentation: Mapping[str, Mapping[str, Any]] | None = None
    device: DeviceConfig = field(default_factory=DeviceConfig)
    search: Mapping[str, Any] = field(default_factory=dict)


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
    """Read a configuration from a TOML file.

    Parameters
    ----------
    path : Path
        The file; paths in it are taken relative to it.
    overrides : sequence of str
        Options over those of the file, such as "training.seed=1", with values as TOML writes them.

    Returns
    -------
    TrainConfig

    Raises
    ------
    ConfigError
        If the file is missing or no TOML, or an option is unknown or does not fit.

    Examples
    --------
    >>> _ = Path("c.toml").write_text('data = { source = "clips.csv", modality = "voice" }')
    >>> read_config(Path("c.toml"), ["training.epochs=3"]).training.epochs
    3
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
    """Write a configuration as TOML that `read_config` reads back as the same.

    Parameters
    ----------
    config : TrainConfig
        What is written; options that are None are left out.
    path : Path
        The file.

    Raises
    ------
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> config = TrainConfig(data=DataConfig(source="clips.csv", modality="voice"))
    >>> write_config(config, Path("c.toml"))
    >>> read_config(Path("c.toml")) == config
    True
    """
    import tomli_w

    write_text(path, tomli_w.dumps(as_table(config)))


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
