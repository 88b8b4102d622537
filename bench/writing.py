"""Measure what the one process that writes a batch can take in, without any analysis.

``python -m bench.writing --recordings 20000 [--windows 5] --work DIR``

One recording is analysed; its rows are then answered for every other one at once, under the key of that one. What is
left is what grows with the number of recordings, and not with the number of cores: reading manifests and contents,
writing parts, merging, summaries and the page.
"""

from __future__ import annotations

import argparse
import copy
import json
import queue
import resource
import shutil
import time
from pathlib import Path
from typing import Any
from unittest import mock

from affuse.batch import BatchSettings, run, running
from affuse.batch.pool import Answer, Pool
from affuse.batch.worker import Job


class AtOnce:
    """An engine whose answers are those about one recording.

    Parameters
    ----------
    description : dict
        What decides about the answers.
    answer : dict
        The answer.
    """

    def __init__(self, description: dict[str, Any], answer: Answer) -> None:
        self.description, self.answer = description, answer
        self.jobs: queue.Queue[Job] = queue.Queue(maxsize=100)

    def start(self) -> dict[str, Any]:
        """What decides about the answers."""
        return self.description

    def work(self) -> None:
        """Nothing is to be started."""

    def stop(self) -> None:
        """Nothing is to be ended."""

    def fail(self, error: BaseException) -> None:
        """Raise what the thread that reads has raised."""
        raise error

    def submit(self, job: Job) -> bool:
        """Take a job."""
        self.jobs.put(job)
        return True

    def next_answer(self, timeout: float) -> tuple[Job, Answer] | None:
        """The answer, under the key of the job."""
        try:
            job = self.jobs.get(timeout=timeout)
        except queue.Empty:
            return None
        own = {table: dict(columns) for table, columns in self.answer.items()}
        for columns in own.values():
            kind, keys = columns["key"]
            columns["key"] = kind, [job.key] * len(keys)
        return job, own


def one_answer(recording: Path, settings: BatchSettings) -> tuple[dict[str, Any], Answer]:
    """What a worker says about a recording, and what decides about it."""
    pool = Pool(settings, 1)
    try:
        description = pool.start()
        pool.work()
        pool.submit(Job("0" * 64, str(recording)))
        while (found := pool.next_answer(1.0)) is None:
            pass
        return copy.deepcopy(description), found[1]
    finally:
        pool.stop()


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=20_000)
    parser.add_argument("--windows", type=int, default=5, help="seconds of words in the recording, a window each")
    parser.add_argument("--work", type=Path, required=True)
    asked = parser.parse_args()
    shutil.rmtree(asked.work, ignore_errors=True)
    folder = asked.work / "said"
    folder.mkdir(parents=True)
    cues = (f"{n + 1}\n00:00:{n:02d},000 --> 00:00:{n + 1:02d},000\nI am so happy!\n" for n in range(asked.windows))
    first = "\n".join(cues)
    for number in range(asked.recordings):
        (folder / f"{number:07d}.srt").write_text(f"{first}{number}\n", encoding="utf-8")
    manifest = asked.work / "manifest.csv"
    rows = (f"said/{number:07d}.srt,\n" for number in range(asked.recordings))
    manifest.write_text("path,transcript\n" + "".join(rows), encoding="utf-8")
    settings = BatchSettings(experts={"text": "text"}, language="en", window=1.0, hop=1.0)
    description, answer = one_answer(folder / "0000000.srt", settings)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    with mock.patch.object(running, "_engine", return_value=AtOnce(description, answer)):
        done = run(manifest, asked.work / "out", settings)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    facts = {
        "recordings": done.analyzed,
        "rows_of_windows_each": len(answer["windows"]["key"][1]),
        "processor_seconds": seconds,
        "seconds": time.monotonic() - began,
        "recordings_a_processor_second": done.analyzed / seconds,
        "peak_mb": after.ru_maxrss / 1024,
        "data_set_mb": sum(p.stat().st_size for p in (asked.work / "out").rglob("*.parquet")) / 1e6,
        "page_mb": (asked.work / "out/index.html").stat().st_size / 1e6,
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
