"""Batches, and jobs of a service, on a Ray cluster: the answers of one machine, whatever is lost on the way."""

from __future__ import annotations

import socket
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from affuse.batch import BatchSettings, read, run
from affuse.batch.cluster import connect, first_difference
from affuse.batch.progress import ProgressReport
from affuse.errors import ConfigError
from affuse.service.confinement import landlock_version, seccomp_is_known
from affuse.service.process import confinement_in_words
from clips import short_demo
from command import Run, caller
from serving import free_port
from workers import in_this_process

if TYPE_CHECKING:
    from serving import LocalService

TEXT = BatchSettings(experts={"text": "text"}, language="en")
SAID = ("I am so happy, thank you!", "I hate this.", "She died and I miss her.", "I am so scared.")
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
SABOTAGE = """
    import os, signal, socket, sys
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
    if "affuse.service.runner" in sys.orig_argv:
        from affuse.analyzer.analyzer import Analyzer
        analyze_text = Analyzer.analyze_text
        def analyzed(self, text, *args, **options):
            if text.startswith("killed"):
                os.kill(os.getpid(), signal.SIGKILL)
            if text.startswith("steal "):
                open(text.split()[1]).read()
            if text.startswith("speak"):
                socket.socket(socket.AF_UNIX).close()
            return analyze_text(self, text, *args, **options)
        Analyzer.analyze_text = analyzed
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
    ray, started = connect(made.address)  # once: Ray 2.60 often refuses actors of a process that has come back at once
    assert started
    yield made
    ray.shutdown()
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


# --- what does not fit; before a cluster is there, to which this process then stays connected -------------------------


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
    assert first_difference(one, other) == "libraries numpy: 2.2.0, elsewhere 2.1.0"


def test_a_service_with_a_key_does_not_send_recordings_through_a_cluster(tmp_path: Path) -> None:
    from affuse.service import Settings

    with pytest.raises(ConfigError, match=r"which does not encrypt them .* leave out --key-file or --ray"):
        Settings(tmp_path / "jobs", ray="auto", key_file=str(tmp_path / "key"))
    with pytest.raises(ConfigError, match="jobs on a Ray cluster have no network"):
        Settings(tmp_path / "jobs", ray="auto", transcribe=True)


def test_a_service_says_at_once_that_no_cluster_answers(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="needs the extra cluster")
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    affuse: Run = caller(monkeypatch, capfd)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    result = affuse("serve", "--folder", tmp_path / "jobs", "--port", free_port(), "--ray", address)
    assert result.code == 2
    assert f"affuse: no Ray cluster answers at {address} " in result.err
    assert "serves at" not in result.err
    monkeypatch.setitem(sys.modules, "ray", None)
    result = affuse("serve", "--folder", tmp_path / "jobs", "--port", free_port(), "--ray", "local")
    assert (result.code, result.err) == (2, "affuse: ray is not installed; run: pip install 'affuse[cluster]'\n")


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Ray's own sockets and processes
def test_a_machine_is_lost_and_nothing_with_it(cluster: Any, tmp_path: Path) -> None:
    said = write_said(tmp_path / "said", 24)
    with in_this_process():
        run(said, tmp_path / "here", TEXT)
    lost = cluster.add_node(**NODE)
    seen: list[ProgressReport] = []

    def lose(report: ProgressReport) -> None:
        seen.append(report)
        if report.done > 5 and lost in cluster.worker_nodes:
            cluster.remove_node(lost, allow_graceful=False)

    done = run(said, tmp_path / "ray", TEXT, workers=0, ray=cluster.address, progress=lose, part_recordings=2)
    assert lost not in cluster.worker_nodes
    assert (done.analyzed, done.failed, seen[-1].done) == (24, 0, 24)
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "here")


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


# --- jobs of a service ------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(cluster: Any, tmp_path: Path) -> Iterator[LocalService]:
    """A service whose jobs are done on the cluster."""
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    from affuse.service import Settings
    from affuse.service.cluster import ClusterRunner
    from serving import LocalService

    settings = Settings(tmp_path / "jobs", ray=cluster.address, token="a-secret-of-sixteen", lease_seconds=2.0)
    runner = ClusterRunner(settings, 0.2)
    with LocalService(settings, runner) as service:
        yield service
    runner.close()


def folders_on_machines() -> set[Path]:
    """What the actors of services have left on this machine, which is all machines of the cluster."""
    return set(Path(tempfile.gettempdir()).glob("affuse-cluster-*/staging/*"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_service_has_its_jobs_done_on_the_cluster(
    remote: LocalService, service: LocalService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = short_demo(tmp_path / "in", "clip")
    before = folders_on_machines()
    asked = {"transcript": clip.with_suffix(".srt"), "window": "2"}
    here, there = (each.done(clip, **asked) for each in (service, remote))
    assert (there["state"], there["error"]) == (here["state"], here["error"]) == ("done", "")
    assert there["result"] == here["result"]  # which says in every window what the words are
    assert {name.split("/")[-1] for name in remote.files()} == {name.split("/")[-1] for name in service.files()} - {
        here["id"]
    } | {there["id"]}
    (message,) = [record.getMessage() for record in caplog.records if "of the Ray cluster, jobs" in record.getMessage()]
    assert confinement_in_words(remote.settings) in message
    assert remote.settings.token not in str(remote.worker.runner._values)

    secret = tmp_path / "secret.txt"
    secret.write_text("of another job")
    stolen = remote.done(text=f"steal {secret}")
    assert stolen["state"] == ("failed" if landlock_version() else "done")
    assert not landlock_version() or "(PermissionError)" in stolen["error"]
    spoken = remote.done(text="speak to Ray")  # by a local socket
    assert ("(PermissionError)" in spoken["error"]) == seccomp_is_known()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 99)
    assert remote.done(broken)["error"].startswith("broken.mp4 ")  # by the name that the client knows
    killed = remote.done(text="killed, whatever is tried")
    assert killed["error"] == "text could not be analysed: its process ended unexpectedly, 2 times"
    assert remote.done(text="I am so happy!")["state"] == "done"  # and the next one is done

    (own,) = folders_on_machines() - before
    assert {path.name for path in own.rglob("*")} == {"in", "out"}  # nothing of a recording stays after its job
    remote.worker.runner.close()
    assert not folders_on_machines() - before


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_actor_that_is_lost_costs_a_service_no_job(remote: LocalService, tmp_path: Path) -> None:
    before = folders_on_machines()
    clip = short_demo(tmp_path / "in", "clip")
    assert remote.send(clip).status_code == 202
    runner, lost = remote.worker.runner, []
    renew = remote.worker.store.renew

    def lose_once(job_id: str, worker: str, stage: str, progress: float) -> bool:
        if progress and not lost:
            lost.extend(actors())
            lost[0].kill()
        return renew(job_id, worker, stage, progress)

    remote.worker.store.renew = lose_once
    remote.work()
    (job,) = remote.worker.store.recent(9, 0)
    assert (job.state, job.attempts, len(lost)) == ("done", 1, 1)
    assert runner.memory() > 0
    assert len(folders_on_machines() - before) == 1  # the recording did not stay where the first one was lost


def actors() -> list[psutil.Process]:
    """Processes of actors that serve a service."""
    return [
        each for each in psutil.process_iter(["cmdline"]) if "ray::JobActor" in " ".join(each.info["cmdline"] or [])
    ]
