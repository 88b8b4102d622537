"""What all tests share: one thread for numerical libraries, and the way to the labelled data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from affuse.service.worker import Runner
    from serving import LocalService

# Read when the libraries load, so before any test imports them: several of them taking every core slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of labelled data that AFFUSE_DATA names; skips the test where there is none."""
    folder = os.environ.get("AFFUSE_DATA")
    if not folder:
        pytest.skip("AFFUSE_DATA does not name the folder of labelled data")
    if not Path(folder).is_dir():
        pytest.skip(f"AFFUSE_DATA names {folder}, which is not a folder")
    return Path(folder)


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    """One process that analyses for all tests of the service, so that the experts are loaded once."""
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    pytest.importorskip("httpx", reason="the tests of the service ask it by httpx (extra dev)")
    from affuse.service.worker import Runner

    runner = Runner()
    yield runner
    runner.end()


@pytest.fixture
def make_service(tmp_path: Path, runner: Runner) -> Iterator[Callable[..., LocalService]]:
    """Makes services in this process, with settings of their own."""
    from affuse.service.settings import Settings
    from serving import LocalService

    with ExitStack() as services:

        def make(folder: Path | None = None, **settings: Any) -> LocalService:
            folder = folder or tmp_path / f"service {len(list(tmp_path.glob('service *')))}"
            return services.enter_context(LocalService(Settings(folder, **settings), runner))

        yield make


@pytest.fixture
def service(make_service: Callable[..., LocalService]) -> LocalService:
    """A service in this process."""
    return make_service()


@pytest.fixture(scope="session")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a 200 Hz tone."""
    from serving import write_sound

    samples = 8000 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    return write_sound(tmp_path_factory.mktemp("media") / "tone.wav", samples)


@pytest.fixture(scope="module")
def batches_here() -> Iterator[None]:
    """Batches analyse in this process, where no test of a module looks at their worker processes."""
    from workers import in_this_process

    with in_this_process():
        yield
