"""What /metrics shows, for Prometheus. No label holds a text, a person or a key."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "heedful_requests", "Requests by model and status.", ["model", "status"], registry=self.registry
        )
        self._running = Gauge("heedful_running", "Requests in progress.", ["model"], registry=self.registry)
        self._seconds = Histogram(
            "heedful_request_seconds", "Time of a request.", ["model"], buckets=SECONDS, registry=self.registry
        )
        self._first = Histogram(
            "heedful_first_token_seconds",
            "Time to the first token.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "heedful_tokens", "Tokens of prompts and of answers.", ["model", "kind"], registry=self.registry
        )

    def begin(self, model: str) -> None:
        self._running.labels(model).inc()

    def end(
        self, model: str, status: str, seconds: float, first: float | None, prompt_tokens: int, completion_tokens: int
    ) -> None:
        self._running.labels(model).dec()
        self._requests.labels(model, status).inc()
        self._seconds.labels(model).observe(seconds)
        if first is not None:
            self._first.labels(model).observe(first)
        self._tokens.labels(model, "prompt").inc(prompt_tokens)
        self._tokens.labels(model, "completion").inc(completion_tokens)

    def shown(self) -> bytes:
        return generate_latest(self.registry)
