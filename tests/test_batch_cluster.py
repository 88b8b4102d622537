"""Batches on a Ray cluster: the data set of one machine, whatever is lost on the way."""

from __future__ import annotations

import socket
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affuse.batch import BatchSettings, read, run
from affuse.batch.cluster import _difference
from affuse.batch.progress import ProgressReport
from affuse.errors import ConfigError
from command import Run, caller

TEXT = BatchSettings(experts={"text": "text"}, language="en")
SAID = ("I am so happy, thank you!", "I hate this.", "She died and I miss her.", "I am so scared.")
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
SABOTAGE = """
    import os, signal, sys
    if "affuse.batch.worker" in sys.orig_argv:
        from affuse.media import Recording
        original = Recording.open.__func__
        def opened(cls, path, *args, **options):
            if os.path.basename(path) == "killed.srt":
                os.kill(os.getpid(), signal.SIGKILL)
            if os.path.basename(path) == "lost.srt":
                os.kill(os.getppid(), signal.SIGKILL)
            return original(cls, path, *args, **options)
        Recording.open = classmethod(opened)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A machine of one core, where names of recordings end workers or their actors."""
    pytest.importorskip("ray", reason="needs the extra cluster")
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(textwrap.dedent(SABOTAGE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))  # of the machines, whose processes inherit it
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield made
    made.shutdown()


def write_said(folder: Path, count: int) -> str:
    """Recordings of words; returns the pattern that finds them."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        text = SAID[number % len(SAID)] + " Well." * (number // len(SAID))
        (folder / f"{number:02d}.srt").write_text(f"1\n00:00:00,000 --> 00:00:02,000\n{text}\n")
    return str(folder / "*.srt")


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Ray's own sockets and processes
def test_a_machine_is_lost_and_nothing_with_it(cluster: Any, tmp_path: Path) -> None:
    said = write_said(tmp_path / "said", 24)
    run(said, tmp_path / "processes", TEXT)
    lost = cluster.add_node(**NODE)
    seen: list[ProgressReport] = []

    def lose(report: ProgressReport) -> None:
        seen.append(report)
        if report.done > 5 and lost in cluster.worker_nodes:
            cluster.remove_node(lost, allow_graceful=False)

    done = run(said, tmp_path / "ray", TEXT, workers=0, ray=cluster.address, progress=lose, part_recordings=2)
    assert lost not in cluster.worker_nodes
    assert (done.analyzed, done.failed, seen[-1].done) == (24, 0, 24)
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "processes")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_ends_workers_is_a_row_and_the_rest_is_analysed(cluster: Any, tmp_path: Path) -> None:
    said = write_said(tmp_path / "said", 3)
    for name in ("killed", "lost"):
        (tmp_path / "said" / f"{name}.srt").write_text(f"1\n00:00:00,000 --> 00:00:02,000\nNo, {name}.\n")
    done = run(said, tmp_path / "out", TEXT, workers=0, ray=cluster.address)
    assert (done.total, done.analyzed, done.failed) == (5, 3, 2)
    reasons = read(tmp_path / "out", "errors").set_index("path")["reason"]
    assert "killed.srt ended the process that analysed it (SIGKILL" in reasons["killed.srt"]
    assert "lost.srt was lost with its worker 3 times" in reasons["lost.srt"]


def test_without_ray_the_pip_line_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    affuse: Run = caller(monkeypatch, capfd)
    monkeypatch.setitem(sys.modules, "ray", None)
    write_said(tmp_path / "said", 1)
    result = affuse("batch", tmp_path / "said/00.srt", "--out", tmp_path / "out", "--ray", "auto")
    assert result.code == 2
    assert result.err == "affuse: ray is not installed; run: pip install 'affuse[cluster]'\n"
    assert not (tmp_path / "out").exists()


def test_an_address_where_nobody_listens_gets_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra cluster")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match=f"no Ray cluster answers at ray://127.0.0.1:{port} "):
        run(write_said(tmp_path / "said", 1), tmp_path / "out", TEXT, ray=f"ray://127.0.0.1:{port}")


def test_the_first_difference_between_two_machines_is_told() -> None:
    one = {"affuse": "0.1.0", "libraries": {"av": "18.0", "numpy": "2.1.0"}}
    other = {"affuse": "0.1.0", "libraries": {"av": "18.0", "numpy": "2.2.0"}}
    assert _difference(one, other) == "libraries numpy: 2.2.0, elsewhere 2.1.0"
