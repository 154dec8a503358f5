"""Requests a second of `xmodular serve` on mixed languages, shared batches against one at a time; and its limits.

    python benchmarks/serve.py --model runs/topic                # throughput, interleaved
    python benchmarks/serve.py --model runs/topic --saturate 60  # memory at saturation
    python benchmarks/serve.py --model runs/topic --fuzz 10000   # malformed requests
    python benchmarks/serve.py --model runs/topic --stop 5       # SIGTERM under load, so often

Without --model, a tiny model with random weights. Each server is a process of its own; the clients are threads here
(http_load.py). "Alone" is the same server with `--batch-tokens 1`: a batch then has a single row. "Peer" is the same
server over transformers' model. The rounds of the servers alternate. "CPU" is the server's processor time a request,
which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from http_load import Load, measured

DATA = Path(__file__).parents[2] / "shared" / "data"
JSON = {"Content-Type": "application/json"}
MADE = {
    "en_XX": "The doctor opens the old house by the river.",
    "de_DE": "Die Ärztin öffnet das alte Haus am Fluss.",
    "sw_KE": "Daktari anafungua nyumba ya zamani kando ya mto.",
    "ru_RU": "Врач открывает старый дом у реки.",
}


def tiny(folder: Path, languages: int) -> Path:
    """A tiny classifier with random weights, and 4,000 pieces where there is real text to train them on."""
    from xmodular import XmodConfig, XmodForSequenceClassification
    from xmodular.vocabulary import train_tokenizer

    there = sorted(path.name.partition(".")[0] for path in (DATA / "sib200").glob("*_*.test.jsonl"))
    codes = list(dict.fromkeys((*MADE, *there)))[:languages]
    text = {code: lines for code in codes if len(lines := texts(code)) > 1}
    made = {code: [line] * 20 for code, line in MADE.items()}
    tokenizer = train_tokenizer(text, 4000) if len(text) > 1 else train_tokenizer(made, 120)
    config = XmodConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        languages=codes,
    )
    config.task_language = "en_XX"
    XmodForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def texts(code: str) -> list[str]:
    """Sentences of a language: real ones, else a made one."""
    path = DATA / "sib200" / f"{code}.test.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line)["text"] for line in lines] or [each for each in [MADE.get(code)] if each]


def sentences(model: Path) -> list[dict[str, str]]:
    """Rows in the languages of a model, mixed."""
    codes = json.loads((model / "config.json").read_text(encoding="utf-8"))["languages"]
    rows = []
    for code in codes:
        rows += [{"text": text, "language": code} for text in texts(code)[:60]]
    random.Random(0).shuffle(rows)
    return rows


class Process:
    """A server in a process of its own."""

    def __init__(self, model: Path, *flags: str, begin: Sequence[str] | None = None) -> None:
        begin = begin or ["-m", "xmodular", "serve", "--model", f"m={model}", "--port", "0"]
        self.child = subprocess.Popen([sys.executable, *begin, *flags], stderr=subprocess.PIPE, text=True)
        assert self.child.stderr is not None
        self.said = ""
        while not (found := re.search(r"http://127.0.0.1:(\d+)", self.said)):
            line = self.child.stderr.readline()
            assert line, self.said
            self.said += line
        self.port = int(found[1])
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.said += line

    def memory(self) -> tuple[float, float]:
        """Resident memory in MB: the process's own, and files mapped into it, weights above all, as far as touched."""
        import psutil

        found = psutil.Process(self.child.pid).memory_info()
        mapped = getattr(found, "shared", 0)  # known on Linux
        return (found.rss - mapped) / 2**20, mapped / 2**20

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        import psutil

        found = psutil.Process(self.child.pid).cpu_times()
        return float(found.user + found.system)

    def stop(self) -> int:
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(60)


@contextmanager
def server(model: Path, *flags: str, begin: Sequence[str] | None = None) -> Iterator[Process]:
    process = Process(model, *flags, begin=begin)
    try:
        yield process
    finally:
        if process.child.poll() is None:
            process.stop()


def peer(model: Path, *flags: str) -> None:
    """The same server in this process, over transformers' model in the place of ours, until a signal."""
    from transformers.models.xmod import XmodForSequenceClassification

    from xmodular.options import ServeOptions, build
    from xmodular.serving.serving import listening, run, service_of

    given = {name[2:].replace("-", "_"): value for name, value in zip(flags[::2], flags[1::2], strict=True)}
    service = service_of(build(ServeOptions, {"model": {"m": str(model)}, **given}))
    theirs = XmodForSequenceClassification.from_pretrained(model).eval()
    service.batchers["m"].predictor.model.forward = theirs.forward  # type: ignore[method-assign]
    try:
        run(service, listening("127.0.0.1", 0), drain=0.0)
    finally:
        service.close()


def throughput(model: Path, rows: Sequence[dict[str, str]], options: argparse.Namespace) -> None:
    """Three servers at several numbers of clients, in turns: shared batches, one at a time, and the peer's model."""
    flags = ("--queue-rows", "4096")
    alone = ("--batch-tokens", "1", "--batch-wait", "0")
    with (
        server(model, *flags) as shared,
        server(model, *flags, *alone) as single,
        server(model, *flags, begin=[__file__, "--peer", str(model)]) as theirs,
    ):
        servers = (shared, single, theirs)
        for each in servers:
            measured(each.port, rows, 2, 1.0)
        columns = "requests/s  p50 ms  p95 ms  CPU ms"
        print("clients" + "".join(f"  {name + ': ' + columns:>52}" for name in ("shared batches", "alone", "peer")))
        for clients in options.clients:
            found: list[list[tuple[float, ...]]] = [[], [], []]
            for _ in range(options.rounds):
                for kind, process in zip(found, servers, strict=True):
                    before = process.cpu()
                    speed, *times = measured(process.port, rows, clients, options.seconds)
                    kind.append((speed, *times, 1000 * (process.cpu() - before) / (speed * options.seconds)))
            many, one, other = ([statistics.median(values) for values in zip(*kind, strict=True)] for kind in found)
            shown = ("  {:29.1f} {:7.0f} {:7.0f} {:7.2f}".format(*kind) for kind in (many, one, other))
            print(
                f"{clients:7d}{''.join(shown)}   {many[0] / one[0]:.2f} x alone (CPU {one[3] / many[3]:.2f}), "
                f"{many[0] / other[0]:.2f} x the peer (CPU {other[3] / many[3]:.2f})",
                flush=True,
            )


def saturate(model: Path, rows: Sequence[dict[str, str]], seconds: float) -> None:
    """Resident memory while more is asked than can be answered."""
    with server(model) as process:
        load = Load(process.port, rows, 64)
        for step in range(7):
            time.sleep(seconds / 6 if step else 5)
            own, mapped = process.memory()
            print(
                f"{step * seconds / 6:5.0f} s  {own:7.0f} MB own  {mapped:7.0f} MB of files  "
                f"{sum(load.statuses.values()):7d} requests",
                flush=True,
            )
        load.stop()
        print(dict(load.statuses), f"{len(load.lost)} lost")


def stop(model: Path, rows: Sequence[dict[str, str]], times: int) -> None:
    """SIGTERM under load: requests that were sent on a connection and got no answer."""
    answered = lost = 0
    for _ in range(times):
        with server(model, "--drain", "0.5") as process:
            load = Load(process.port, rows, 16)
            time.sleep(3)
            code = process.stop()
            load.join()
            answered, lost = answered + sum(load.statuses.values()), lost + len(load.lost)
            assert code == 0, process.said
            assert set(load.statuses) == {200}, load.statuses
    print(f"{times} stops: {answered} requests answered, {lost} lost")


# ---------------------------------------------------------------- malformed requests


def malformed(draw: random.Random) -> tuple[str, str, dict[str, str], bytes, int]:
    """A request that is wrong in one way: method, path, headers, body, and the status that it must get."""
    good = {"text": draw.choice(list(MADE.values())), "language": draw.choice(list(MADE))}
    whole = json.dumps(good, ensure_ascii=False).encode()
    value: Any = draw.choice([None, True, 7, -1.5, [], {}, [good], {"a": 1}])
    kind = draw.randrange(18)
    if kind == 0:  # cut short
        return "POST", "/predict", JSON, whole[: draw.randrange(len(whole) - 1)], 400
    if kind == 1:  # a byte that UTF-8 never has
        place = draw.randrange(len(whole) + 1)
        return "POST", "/predict", JSON, whole[:place] + bytes([draw.randrange(0xF8, 0x100)]) + whole[place:], 400
    if kind == 2:  # another encoding
        code = draw.choice(["utf-16", "utf-32", "utf-8-sig", "cp037"])
        return "POST", "/predict", JSON, '{"text": "Das Haus"}'.encode(code), 400
    if kind == 3:  # noise that begins as no JSON does
        return "POST", "/predict", JSON, b"%" + draw.randbytes(draw.randrange(300)), 400
    if kind == 4:  # deep
        return "POST", "/predict", JSON, draw.choice([b"[", b'{"a":']) * draw.randrange(20_000, 90_000), 400
    if kind == 5:
        number = draw.choice([b"NaN", b"Infinity", b"-Infinity", b"1" * 5000])
        return "POST", "/predict", JSON, b'{"text": "a", "x": ' + number + b"}", 400
    if kind == 6:  # neither text, list nor object
        return "POST", "/predict", JSON, draw.choice([b"null", b"true", b"12", b"-1e5", b"[]", b"{}"]), 422
    if kind == 7:
        return "POST", "/predict", JSON, json.dumps({**good, "text": value}).encode(), 422
    if kind == 8:
        wrong = draw.choice([True, 7, -1.5, [], {}, ["de"]])
        return "POST", "/predict", JSON, json.dumps({**good, "language": wrong}).encode(), 422
    if kind == 9:
        name = "".join(draw.choices("qxzjk", k=draw.randrange(8, 30)))
        return "POST", "/predict", JSON, json.dumps({**good, "language": name}).encode(), 422
    if kind == 10:
        row = draw.choice([None, True, 7, -1.5, [], {}, [good], {"a": 1}, "", " "])
        return "POST", "/predict", JSON, json.dumps([good] * draw.randrange(9) + [row]).encode(), 422
    if kind == 11:
        body = {"rows": draw.choice([None, True, 7, "text", {}, []]), "language": "de_DE"}
        return "POST", "/predict", JSON, json.dumps(body).encode(), 422
    if kind == 12:
        body = {"rows": [good], draw.choice(["lang", "row", "texts", "\x00", "😀"]): "de"}
        return "POST", "/predict", JSON, json.dumps(body).encode(), 422
    if kind == 13:
        half = f"\\ud{draw.choice('89abcdef')}{draw.randrange(256):02x}"
        return "POST", "/predict", JSON, f'{{"text": "a {half} b", "language": "de_DE"}}'.encode(), 422
    if kind == 14:
        case = draw.randrange(3)
        body = (
            [good] * draw.randrange(257, 900) if case == 0 else {**good, "text": "a" * draw.randrange(20_001, 90_000)}
        )
        sent = json.dumps(body).encode() if case < 2 else b'"' + b"a" * draw.randrange(1_000_000, 1_200_000) + b'"'
        return "POST", "/predict", JSON, sent, 413
    if kind == 15:
        given = draw.choice(
            ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json", "x/" * 99]
        )
        return "POST", "/predict", {"Content-Type": given}, whole, 415
    if kind == 16:
        method = draw.choice(["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
        return method, "/predict", JSON, whole, 405
    path = draw.choice(["/predicts", "/models/none/predict", "/../etc/passwd", "/%00", "//predict"])
    return "POST", path, JSON, whole, 404


def fuzz(model: Path, rows: Sequence[dict[str, str]], count: int) -> None:
    """Malformed requests, and after each hundred a good one."""
    draw, wrong, statuses = random.Random(0), Counter[str](), Counter[int]()
    with server(model) as process:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=30)
        for number in range(count):
            method, path, headers, body, expected = malformed(draw)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
            statuses[response.status] += 1
            is_said = method == "HEAD" or json.loads(content).get("error", {}).get("status") == expected
            if response.status != expected or not is_said:
                wrong[f"{method} {path} {body[:60]!r}: {response.status}, not {expected}"] += 1
            if number % 100 == 0:
                connection.request("POST", "/predict", json.dumps(rows[number % len(rows)]), JSON)
                response = connection.getresponse()
                assert response.status == 200, response.read()
                response.read()
        assert process.child.poll() is None, process.said
        print(f"{count} malformed requests: {dict(sorted(statuses.items()))}; {wrong.total()} wrong statuses")
        for said, times in wrong.most_common(10):
            print(f"  {times} x {said}")
        if "failed" in process.said or "Traceback" in process.said:
            print(process.said[-2000:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--languages", type=int, default=4, help="of the tiny model; more than 4 need real text")
    parser.add_argument("--clients", type=lambda text: [int(each) for each in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--saturate", type=float, metavar="SECONDS")
    parser.add_argument("--fuzz", type=int, metavar="REQUESTS")
    parser.add_argument("--stop", type=int, metavar="TIMES")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options, flags = parser.parse_known_args()
    if options.peer:
        return peer(options.peer, *flags)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or tiny(Path(folder), options.languages)
        rows = sentences(model)
        print(f"{model if options.model else 'tiny model'}, {len({row['language'] for row in rows})} languages")
        if options.saturate:
            saturate(model, rows, options.saturate)
        if options.fuzz:
            fuzz(model, rows, options.fuzz)
        if options.stop:
            stop(model, rows, options.stop)
        if not (options.saturate or options.fuzz or options.stop):
            throughput(model, rows, options)


if __name__ == "__main__":
    main()
