"""Figures of a running service in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from affuse.service.store import JobStore

__all__ = ["Metrics"]


class _Jobs(Collector):
    """Jobs by state, counted when asked: several processes change them."""

    def __init__(self, store: JobStore) -> None:
        self.store = store

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        jobs = GaugeMetricFamily("affuse_jobs", "Jobs by state", labels=["state"])
        for state, count in self.store.counts().items():
            jobs.add_metric([state], count)
        yield jobs
        yield GaugeMetricFamily("affuse_job_seconds_mean", "Mean time of recent jobs", value=self.store.mean_seconds())


class Metrics:
    """Counters of one server process; every app has its own, so that several may live in one process."""

    def __init__(self, store: JobStore) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Jobs(store))
        self.accepted = Counter("affuse_jobs_accepted", "Jobs accepted", registry=self.registry)
        self.refused = Counter("affuse_jobs_refused", "Requests for jobs refused", ["reason"], registry=self.registry)
        self.fused_rows = Counter("affuse_fused_rows", "Rows fused", registry=self.registry)
        self.live = Gauge("affuse_live_streams", "Live streams open", registry=self.registry)
        self.live_delay = Histogram(
            "affuse_live_delay_seconds",
            "Time from the last sample of a step to its answer",
            registry=self.registry,
            buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2),
        )
        self.live_dropped = Counter(
            "affuse_live_frames_dropped", "Frames dropped for newer ones", registry=self.registry
        )

    def text(self) -> bytes:
        """All figures."""
        return bytes(generate_latest(self.registry))
