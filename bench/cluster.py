"""Kill a machine of a Ray cluster in the middle of a batch: the same files as by processes, and nothing lost.

``python -m bench.cluster --recordings DIR [DIR …] [--limit 200] [--cut 1.0] [--nodes 3] [--experts face,voice]
--work DIR``

The cluster is a real one of several nodes on this machine, each with its own raylet and one core. The recordings are
those of `bench/batch.py`. The node is ended by SIGKILL, with whatever runs on it, once half of the recordings are done.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from bench.batch import clips

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000}


def files_of(folder: Path) -> dict[str, bytes]:
    """All files of a data set by their names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Accident:
    """Ends a node once half of the recordings are done, and remembers when.

    Parameters
    ----------
    cluster : ray.cluster_utils.Cluster
        The cluster.
    """

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.node = next(iter(cluster.worker_nodes))
        self.done_before: int | None = None

    def __call__(self, report: Any) -> None:
        """Take in how far the run is."""
        if self.done_before is None and report.done >= report.total / 2:
            self.done_before = report.done
            self.cluster.remove_node(self.node, allow_graceful=False)


def by_ray(manifest: Path, out: Path, settings: Any, nodes: int) -> dict[str, Any]:
    """Run on a cluster that loses a node."""
    from ray.cluster_utils import Cluster

    from affuse.batch import run

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    for _ in range(nodes):
        cluster.add_node(**NODE)
    accident = Accident(cluster)
    started = time.monotonic()
    try:
        done = run(manifest, out, settings, workers=0, ray=cluster.address, progress=accident)
        left = len(cluster.worker_nodes)
    finally:
        cluster.shutdown()
    return {
        "seconds": time.monotonic() - started,
        "nodes": nodes,
        "nodes_left": left,
        "done_before_the_kill": accident.done_before,
        "analyzed": done.analyzed,
        "failed": done.failed,
    }


def main() -> None:
    """Run both ways and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=Path, required=True, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--cut", type=float)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--experts", default="face,voice")
    asked = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from affuse.batch import BatchSettings, read, run

    shutil.rmtree(asked.work, ignore_errors=True)
    asked.work.mkdir(parents=True)
    found = clips(asked.recordings, asked.limit, asked.cut, asked.work)
    manifest = asked.work / "clips.csv"
    manifest.write_text("path\n" + "".join(f"{path}\n" for path in found), encoding="utf-8")
    settings = BatchSettings(experts={name: name for name in asked.experts.split(",")})
    facts: dict[str, Any] = {"recordings": len(found), "experts": asked.experts}
    started = time.monotonic()
    done = run(manifest, asked.work / "processes", settings, workers=os.cpu_count() or 1)
    facts["processes"] = {"seconds": time.monotonic() - started, "analyzed": done.analyzed, "failed": done.failed}
    facts["ray"] = by_ray(manifest, asked.work / "ray", settings, asked.nodes)
    one, two = files_of(asked.work / "processes"), files_of(asked.work / "ray")
    facts["recordings_with_answers"] = read(asked.work / "ray", "persons")["path"].nunique()
    facts["files"] = len(one)
    facts["different_files"] = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
