"""The loop: averaged weights, the best epoch, checkpoints that are complete or unused, and runs that resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the loop needs the extra train (torch)")
pytest.importorskip("lightning", reason="the loop needs the extra train (lightning)")

from lightning.pytorch import Callback, LightningDataModule, LightningModule  # noqa: E402

from affuse import loop  # noqa: E402
from affuse.errors import AssetError, ConfigError, MissingExtraError  # noqa: E402

TARGET = 3.0


class Slope(LightningModule):
    """One weight that gradient descent moves by 0.2 · (3 − w) a step; its validation loss is what a test wants."""

    def __init__(self, losses: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(()))
        self.losses = losses
        self.seen: list[float] = []
        self.drawn: list[float] = []

    def training_step(self, batch: Any, index: int) -> Any:
        self.drawn.append(float(torch.rand(())))
        return 0.5 * (self.w - TARGET) ** 2 + 0 * batch.sum()

    def validation_step(self, batch: Any, index: int) -> None:
        self.seen.append(self.w.item())
        loss = self.losses[self.current_epoch] if self.losses else (self.w - TARGET) ** 2
        self.log("val_loss", float(loss))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.2)


class Steps(LightningDataModule):
    def __init__(self, steps: int = 1) -> None:
        super().__init__()
        self.steps = steps

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.zeros(self.steps))

    def val_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.zeros(1))


def weights_after(steps: int) -> list[float]:
    """Of plain gradient descent, by hand."""
    w = [0.0]
    for _ in range(steps):
        w.append(w[-1] + 0.2 * (TARGET - w[-1]))
    return w[1:]


def plan(epochs: int, **options: Any) -> loop.LoopConfig:
    return loop.LoopConfig(max_epochs=epochs, accelerator="cpu", gradient_clip=None, **options)


def test_the_best_epoch_is_kept_and_training_stops_after_patience() -> None:
    module = Slope(losses=(5.0, 2.0, 4.0, 3.0, 1.0))
    kept = loop.fit(module, Steps(), plan(5, patience=2))
    assert kept is not None
    assert (kept.epoch, kept.best) == (1, 2.0)
    assert len(module.drawn) == 4, "two epochs without a better loss after the second"
    assert module.w.item() == pytest.approx(weights_after(2)[-1])
    assert not module.training


def test_larger_can_be_better_and_nothing_need_be_monitored() -> None:
    kept = loop.fit(Slope(losses=(0.5, 0.9, 0.7)), Steps(), plan(3), mode="max")
    assert kept is not None
    assert (kept.epoch, kept.best) == (1, pytest.approx(0.9))
    module = Slope()
    assert loop.fit(module, Steps(), plan(3), monitor=None) is None
    assert module.w.item() == pytest.approx(weights_after(3)[-1])
    assert module.seen == []


def by_hand_average(decay: float, steps: int) -> list[float]:
    """The moving average of the weights after every step: the first is taken as it is."""
    w = weights_after(steps)
    average = [w[0]]
    for t in range(1, steps):
        share = min(decay, (1 + t) / (10 + t))
        average.append(share * average[-1] + (1 - share) * w[t])
    return average


def test_validation_sees_the_average_and_training_its_own_weights() -> None:
    module = Slope()
    loop.fit(module, Steps(), plan(6, ema_decay=0.3))
    assert module.seen == pytest.approx(by_hand_average(0.3, 6))
    assert module.w.item() == pytest.approx(by_hand_average(0.3, 6)[-1]), "the last epoch is the best"
    alone = Slope()
    loop.fit(alone, Steps(), plan(6, ema_decay=0.3), monitor=None)
    assert alone.w.item() == pytest.approx(by_hand_average(0.3, 6)[-1])


class KilledError(Exception):
    pass


class Kill(Callback):
    """Stops a run in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == self.epoch and trainer.fit_loop.epoch_loop.batch_idx == 1:
            raise KilledError


def interrupted(folder: Path, epoch: int, **options: Any) -> None:
    with pytest.raises(KilledError):
        loop.fit(Slope(), Steps(4), plan(6, checkpoints=folder, trainer={"callbacks": [Kill(epoch)]}, **options))


@pytest.mark.parametrize("decay", [None, 0.7])
def test_a_resumed_run_ends_as_an_undisturbed_one(tmp_path: Path, decay: float | None) -> None:
    whole, resumed = Slope(), Slope()
    loop.fit(whole, Steps(4), plan(6, ema_decay=decay, seed=3))
    interrupted(tmp_path, 3, ema_decay=decay, seed=3)
    loop.fit(resumed, Steps(4), plan(6, ema_decay=decay, seed=3, checkpoints=tmp_path))
    assert resumed.w.item() == whole.w.item()
    assert resumed.seen == whole.seen[3:]
    assert resumed.drawn == whole.drawn[12:], "every epoch draws from a seed of its own"
    assert len({*whole.drawn}) == 24


def test_a_run_that_had_stopped_early_does_not_go_on(tmp_path: Path) -> None:
    losses = (1.0, 2.0, 3.0, 0.5, 0.1, 0.1)
    first = Slope(losses)
    loop.fit(first, Steps(), plan(6, patience=2, checkpoints=tmp_path))
    again = Slope(losses)
    kept = loop.fit(again, Steps(), plan(6, patience=2, checkpoints=tmp_path))
    assert len(first.drawn) == 3
    assert again.drawn == []
    assert kept is not None
    assert kept.epoch == 0
    assert again.w.item() == first.w.item()


def test_two_checkpoints_are_kept_and_a_broken_one_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Slope()
    loop.fit(whole, Steps(4), plan(6))
    interrupted(tmp_path, 4)
    names = sorted(path.name for path in tmp_path.glob("*.ckpt"))
    assert [name.split(".")[0] for name in names] == ["epoch-00002", "epoch-00003"]
    last = tmp_path / names[-1]
    assert loop.last_checkpoint(tmp_path) == last
    (tmp_path / "checkpoint.part").write_bytes(b"what a kill left of the next one")
    last.write_bytes(last.read_bytes()[:-100])
    assert loop.last_checkpoint(tmp_path) == tmp_path / names[0]
    assert f"{names[-1]} is damaged; resuming from the checkpoint before it" in caplog.text
    resumed = Slope()
    loop.fit(resumed, Steps(4), plan(6, checkpoints=tmp_path))
    assert resumed.w.item() == whole.w.item()
    assert len(resumed.drawn) == 12, "from the third epoch on"


def test_a_flipped_bit_is_noticed_and_nothing_whole_is_an_error(tmp_path: Path) -> None:
    interrupted(tmp_path, 1)
    (only,) = tmp_path.glob("*.ckpt")
    content = bytearray(only.read_bytes())
    content[len(content) // 2] ^= 1
    only.write_bytes(bytes(content))
    with pytest.raises(
        AssetError, match=r"all checkpoints in .* are damaged \(epoch-00000.*\); remove them to start again"
    ):
        loop.fit(Slope(), Steps(4), plan(6, checkpoints=tmp_path))
    assert loop.last_checkpoint(tmp_path / "nowhere") is None


def test_weights_of_a_run_are_read_from_its_last_checkpoint(tmp_path: Path) -> None:
    module = Slope()
    loop.fit(module, Steps(4), plan(3, ema_decay=0.7, checkpoints=tmp_path), monitor=None)
    assert loop.read_weights(tmp_path)["w"].item() == module.w.item(), "the average, which is what is kept"
    with pytest.raises(AssetError, match=r"nowhere holds no checkpoint"):
        loop.read_weights(tmp_path / "nowhere")


def test_states_of_callbacks_stand_under_the_names_that_earlier_versions_gave_them(tmp_path: Path) -> None:
    loop.fit(Slope(), Steps(), plan(2, patience=1, ema_decay=0.7, checkpoints=tmp_path))
    last = loop.last_checkpoint(tmp_path)
    assert last is not None
    kept = torch.load(last, weights_only=True)["callbacks"]
    assert set(kept) == {"KeepBest", "Average", "_StopAgain{'monitor': 'val_loss', 'mode': 'min'}"}


@pytest.mark.parametrize("resumed", [False, True])
def test_parts_that_come_in_evaluation_mode_are_trained_and_answer_in_it(tmp_path: Path, resumed: bool) -> None:
    class Modes(Slope):
        def __init__(self) -> None:
            super().__init__()
            self.part = torch.nn.Dropout().eval()  # as pretrained networks are loaded
            self.modes: list[bool] = []

        def training_step(self, batch: Any, index: int) -> Any:
            self.modes.append(self.part.training)
            return super().training_step(batch, index)

    if resumed:
        interrupted(tmp_path, 1)
    module = Modes()
    loop.fit(module, Steps(4), plan(3, checkpoints=tmp_path))
    assert module.modes == [True] * (8 if resumed else 12)
    assert not module.part.training


def test_global_switches_are_left_as_they_were() -> None:
    torch.manual_seed(4)
    expected = torch.rand(2)
    torch.manual_seed(4)
    loop.fit(Slope(), Steps(), plan(1, deterministic=True))
    assert torch.equal(torch.rand(2), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_loggers_by_name(tmp_path: Path) -> None:
    loop.fit(Slope(), Steps(), plan(2, logger="csv", log_folder=tmp_path))
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert "val_loss" in metrics.read_text().splitlines()[0]
    with pytest.raises(ConfigError, match="unknown logger 'paper'; known: csv, tensorboard, wandb"):
        loop.fit(Slope(), Steps(), plan(1, logger="paper"))


def test_a_logger_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(**_: Any) -> None:
        raise ModuleNotFoundError("No module named 'wandb'")

    monkeypatch.setitem(loop._LOGGERS, "wandb", absent)
    with pytest.raises(MissingExtraError, match=r"wandb is not installed; run: pip install 'affuse\[wandb\]'"):
        loop.fit(Slope(), Steps(), plan(1, logger="wandb", log_folder=tmp_path))


def test_tensorboard_events_hold_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop.fit(Slope(losses=(2.0, 1.0)), Steps(), plan(2, logger="tensorboard", log_folder=tmp_path))
    (events,) = tmp_path.rglob("events.out.*")
    accumulated = EventAccumulator(str(events)).Reload()
    assert [entry.value for entry in accumulated.Scalars("val_loss")] == [2.0, 1.0]
