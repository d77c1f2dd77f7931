"""Prometheus metrics without personal data: counts and times of requests, sizes of batches, the model's digest.

Labels have few values, which no caller chooses: names of routes, status codes, the digest of the model in use. There
is no id of an item, no length of a history and nothing for each user.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from fedrec.serving.messages import About

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_PEOPLE = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter("fedrec_requests", "Answered requests.", ["route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "fedrec_request_seconds",
            "Seconds from the head of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram("fedrec_batch_people", "People in a batch.", buckets=_PEOPLE, registry=self._registry)
        self._reloads = Counter(
            "fedrec_reloads", "Attempts to load a release again.", ["result"], registry=self._registry
        )
        self._model = Gauge(
            "fedrec_model_info", "The model in use.", ["digest", "kind", "items"], registry=self._registry
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer. route: its name in the table of routes, or one name for all that is no route."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, people: int) -> None:
        """Count a batch."""
        self._batches.observe(people)

    def reloaded(self, result: str) -> None:
        """Count an attempt to load a release. result: `used`, `same` or `refused`."""
        self._reloads.labels(result).inc()

    def model(self, about: About) -> None:
        """Show another model as the one in use."""
        self._model.clear()
        self._model.labels(about.digest, about.kind, str(about.items)).set(1)

    def text(self) -> str:
        """Return all in the text format of Prometheus."""
        return generate_latest(self._registry).decode()
