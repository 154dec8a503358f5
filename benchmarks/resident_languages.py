"""Memory of 81 languages of which 8 are in memory, and what their reads cost.

    python benchmarks/resident_languages.py                # multilingual-e5-small's shape
    python benchmarks/resident_languages.py --languages 8  # of a model that has no more

Random weights. Three servers, each a process of its own: of all 81 languages, of 81 with `--resident-languages 8`, and
of a model that has 8 languages. Each is asked in all its languages, in turn and mixed; memory is the process's own (RSS
less the pages of mapped files, which the system may drop), and then with these.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from serve import JSON, MADE, server

WORDS = " ".join(MADE.values()).split()


def made(folder: Path, languages: list[str]) -> Path:
    """A model of multilingual-e5-small's shape, with random weights, and a small tokenizer."""
    from xmodular import XmodConfig, XmodForSequenceClassification
    from xmodular.vocabulary import train_tokenizer

    tokenizer = train_tokenizer({"en_XX": list(MADE.values()) * 20}, 120)
    config = XmodConfig(
        vocab_size=250_037,
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=1536,
        adapter_reduction_factor=2,
        languages=languages,
    )
    config.task_language = "en_XX"
    XmodForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def memory(pid: int) -> tuple[float, float]:
    """MB of a process: its own, and with the pages of mapped files."""
    found: Any = psutil.Process(pid).memory_info()
    return (found.rss - found.shared) / 2**20, found.rss / 2**20


def asked(model: Path, codes: list[str], *flags: str) -> None:
    with server(model, *flags, "--timeout", "600") as process:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=600)

        def ask(rows: list[dict[str, str]]) -> float:
            start = time.perf_counter()
            connection.request("POST", "/predict", json.dumps(rows), JSON)
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            return time.perf_counter() - start

        def rows(start: int) -> list[dict[str, str]]:
            return [
                {"text": " ".join(WORDS[place % 20 :]), "language": codes[place % len(codes)]}
                for place in range(start, start + 16)
            ]

        at_first = memory(process.child.pid)
        first = [ask([{"text": "Das Haus am Fluss ist alt.", "language": code}]) for code in codes]
        mixed = [ask(rows(start)) for start in range(0, 10 * 16, 16)]
        single = [ask([{"text": "Das Haus am Fluss ist alt.", "language": codes[0]}]) for _ in range(40)]
        own, whole = memory(process.child.pid)
        print(
            f"{len(codes)} languages {' '.join(flags):24} {at_first[0]:7.0f} {own:7.0f} MB ({whole:7.0f} with mapped "
            f"files); a language's first row {1000 * statistics.median(first):5.0f} ms, further ones "
            f"{1000 * statistics.median(single):5.0f} ms, 16 rows of 16 languages "
            f"{1000 * statistics.median(mixed):6.0f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", type=int, default=81)
    parser.add_argument("--resident", type=int, default=8)
    options = parser.parse_args()
    from xmodular.catalogue import RELEASES

    codes = list(RELEASES["xmod-base"].languages)[: options.languages]
    with tempfile.TemporaryDirectory() as folder:
        many, few = made(Path(folder) / "many", codes), made(Path(folder) / "few", codes[: options.resident])
        for _ in range(2):
            asked(many, codes)
            asked(many, codes, "--resident-languages", str(options.resident))
            asked(few, codes[: options.resident])


if __name__ == "__main__":
    main()
