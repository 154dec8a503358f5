"""Smaller copies of a data set's files: so many rows of each, the same ones in every language.

    python benchmarks/cut.py --data pos --rows train=1000,dev=200,test=200 --output-dir cut/pos

Rows are drawn by their ``id``, or by their place where they have none, and keep their order. A row is a line of
``.jsonl``, a sentence of ``.conll`` and ``.conllu``, a question of SQuAD's ``.json``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path


def drawn(names: Sequence[object], rows: int, seed: int) -> list[int]:
    order = sorted(range(len(names)), key=lambda place: random.Random(f"{seed} {names[place]}").random())
    return sorted(order[:rows])


def cut(text: str, suffix: str, rows: int, seed: int) -> str:
    if suffix == ".json":
        data = json.loads(text)
        paragraphs = [paragraph for article in data["data"] for paragraph in article["paragraphs"]]
        names = [question["id"] for paragraph in paragraphs for question in paragraph["qas"]]
        kept = {names[place] for place in drawn(names, rows, seed)}
        for paragraph in paragraphs:
            paragraph["qas"] = [question for question in paragraph["qas"] if question["id"] in kept]
        for article in data["data"]:
            article["paragraphs"] = [paragraph for paragraph in article["paragraphs"] if paragraph["qas"]]
        return json.dumps(data, ensure_ascii=False)
    mark = "\n" if suffix == ".jsonl" else "\n\n"
    parts = [part for part in text.split(mark) if part.strip()]
    names = list(range(len(parts)))
    if suffix == ".jsonl":
        names = [json.loads(part).get("id", place) for place, part in enumerate(parts)]
    return "".join(parts[place].strip("\n") + mark for place in drawn(names, rows, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of <language>.<split>.<ext> files")
    parser.add_argument("--rows", default="train=1000,dev=200,test=200", help="rows of each split")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output-dir", type=Path, required=True)
    options = parser.parse_args()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    for split, rows in (part.split("=") for part in options.rows.split(",")):
        for file in sorted(options.data.glob(f"*.{split}.*")):
            made = cut(file.read_text(encoding="utf8"), file.suffix, int(rows), options.seed)
            (options.output_dir / file.name).write_text(made, encoding="utf8")


if __name__ == "__main__":
    main()
