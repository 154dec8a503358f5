"""What a server counts, as text in Prometheus' format (version 0.0.4)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

Labels = tuple[tuple[str, str], ...]


class Counter:
    """A number that only grows, for each combination of labels."""

    kind = "counter"

    def __init__(self, name: str, help: str) -> None:
        self.name, self.help = name, help
        self._values: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def add(self, count: float = 1, **labels: str) -> None:
        """Add to the number with these labels."""
        key = tuple(labels.items())
        with self._lock:
            self._values[key] = self._values.get(key, 0) + count

    def value(self, **labels: str) -> float:
        """The number with exactly these labels; 0 if there is none."""
        return self._values.get(tuple(labels.items()), 0)

    def lines(self) -> list[str]:
        """The samples."""
        with self._lock:
            values = dict(self._values)
        return [f"{self.name}{_shown(key)} {_number(value)}" for key, value in values.items()]


class Histogram:
    """How often values were at most so large, for each combination of labels."""

    kind = "histogram"

    def __init__(self, name: str, help: str, edges: Sequence[float]) -> None:
        self.name, self.help = name, help
        self._edges = tuple(edges)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def observe(self, value: float, **labels: str) -> None:
        """Count a value."""
        key = tuple(labels.items())
        with self._lock:
            counts = self._counts.setdefault(key, [0] * (len(self._edges) + 1))
            counts[bisect_left(self._edges, value)] += 1
            self._sums[key] = self._sums.get(key, 0.0) + value

    def lines(self) -> list[str]:
        """The samples: cumulative counts, sum and count."""
        with self._lock:
            found = {key: (list(counts), self._sums[key]) for key, counts in self._counts.items()}
        shown = []
        for key, (counts, total) in found.items():
            below = 0
            for edge, count in zip((*map(_number, self._edges), "+Inf"), counts, strict=True):
                below += count
                shown.append(f"{self.name}_bucket{_shown((*key, ('le', edge)))} {below}")
            shown += [f"{self.name}_sum{_shown(key)} {_number(total)}", f"{self.name}_count{_shown(key)} {below}"]
        return shown


class Gauge:
    """A number as it is when it is asked for."""

    kind = "gauge"

    def __init__(self, name: str, help: str) -> None:
        self.name, self.help = name, help
        self._sources: dict[Labels, Callable[[], float]] = {}

    def watch(self, source: Callable[[], float], **labels: str) -> None:
        """Ask `source` for the number with these labels."""
        self._sources[tuple(labels.items())] = source

    def lines(self) -> list[str]:
        """The samples."""
        return [f"{self.name}{_shown(key)} {_number(source())}" for key, source in self._sources.items()]


class Measures:
    """All that a server counts."""

    def __init__(self) -> None:
        self.requests = Counter("xmodular_requests_total", "Requests, by model and status; no model: other paths.")
        self.rows = Counter("xmodular_rows_total", "Rows predicted, by model and the language of the adapter.")
        self.tokens = Counter("xmodular_tokens_total", "Tokens read by a model, padding excluded.")
        self.failures = Counter("xmodular_batch_failures_total", "Batches that ended in an error.")
        self.batch_rows = Histogram("xmodular_batch_rows", "Rows in a batch.", _ROWS)
        self.batch_tokens = Histogram("xmodular_batch_tokens", "Tokens in a batch, padding excluded.", _TOKENS)
        self.batch_seconds = Histogram("xmodular_batch_seconds", "Seconds that a batch took.", _SECONDS)
        self.latency = Histogram("xmodular_request_seconds", "Seconds from a request to its answer.", _SECONDS)
        self.waiting = Gauge("xmodular_queue_rows", "Rows that wait for a model.")
        self.resident = Gauge("xmodular_resident_languages", "Languages whose adapters are in memory.")
        self.room = Gauge("xmodular_queue_rows_limit", "Rows that may wait for a model.")

    def text(self) -> str:
        """All of it, in the text format."""
        lines = []
        for each in vars(self).values():
            lines += [f"# HELP {each.name} {each.help}", f"# TYPE {each.name} {each.kind}", *each.lines()]
        return "\n".join(lines) + "\n"


def _shown(labels: Labels) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in labels]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.9g}"
