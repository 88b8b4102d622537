"""What all tests share: one thread for numerical libraries, and the way to the labelled data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read when the libraries load, so before any test imports them: several of them taking every core slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of labelled data that AFFUSE_DATA names; skips the test where there is none."""
    folder = os.environ.get("AFFUSE_DATA")
    if not folder:
        pytest.skip("AFFUSE_DATA does not name the folder of labelled data")
    if not Path(folder).is_dir():
        pytest.skip(f"AFFUSE_DATA names {folder}, which is not a folder")
    return Path(folder)
