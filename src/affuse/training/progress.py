"""What a run tells while it learns: a bar with the time left on a terminal, a line an epoch elsewhere, and curves."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from affuse.files import replacing

__all__ = ["Curves", "Progress", "duration"]


class Curves(Callback):
    """Metrics of every epoch in a CSV file, written anew after each; checkpoints carry the rows of a resumed run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a row and write all."""
        figures = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        self.rows.append({"epoch": trainer.current_epoch + 1, "learning_rate": rate, **figures})
        if trainer.is_global_zero:
            self.write()

    def write(self) -> None:
        """Write all rows."""
        if not self.rows:
            return
        with replacing(self.path) as (part,), part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.rows[-1]))
            writer.writeheader()
            writer.writerows(self.rows)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.rows = list(state_dict["rows"])


class Progress(Callback):
    """Where a run stands, on standard error."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: Any = None
        self._task: Any = None
        self._started = 0.0
        self._first = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and the bar where somebody looks."""
        self._started, self._first = time.monotonic(), trainer.current_epoch
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar, self._task = _bar(self.title, _total(trainer))
            self._bar.update(self._task, completed=trainer.fit_loop.total_batch_idx + 1)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what the epoch brought."""
        if not trainer.is_global_zero:
            return
        figures = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        if self._bar is not None:
            self._bar.console.print(f"epoch {epoch}/{epochs}: {told}", highlight=False)
            return
        each = (time.monotonic() - self._started) / (epoch - self._first)
        left = f"{duration(each)} an epoch, at most {duration(each * (epochs - epoch))} left"
        print(f"epoch {epoch}/{epochs}: {told}; {left}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the terminal as it was."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _bar(title: str, total: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("left at most"))
    bar = Progress(*columns, console=Console(stderr=True))
    return bar, bar.add_task(title, total=total)


def _total(trainer: Trainer) -> int:
    return int(trainer.num_training_batches) * (trainer.max_epochs or 1)


def duration(seconds: float) -> str:
    """Seconds as people say them: "8 s", "3 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
