"""Predict Parquet files with Ray Data: two workers, each with its own copy of the model.

    pip install 'xmodular[ray]'
    python examples/predict_ray.py

For files in and files out alone, `xmodular predict --engine ray` needs no program. This is for pipelines.
"""

from __future__ import annotations

import json
import random

import pyarrow
import ray
from prepare import arguments, prepare
from pyarrow import parquet

from xmodular import Predictor, finetune
from xmodular.distributed import BatchPredictor


def main() -> None:
    options = arguments(__doc__)
    corpus, base = prepare(options)
    train = corpus / "topic" / "en_XX.train.jsonl"
    run = finetune(base, train, language="en", output_dir=options.output_dir / "topic", epochs=1, overwrite=True)

    rows = []
    for path in sorted((corpus / "topic").glob("*.test.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            rows.append({"number": len(rows), "text": json.loads(line)["text"], "language": path.name.split(".")[0]})
    random.Random(0).shuffle(rows)
    shards = options.output_dir / "rows"
    shards.mkdir(exist_ok=True)
    for number in range(4):
        parquet.write_table(pyarrow.Table.from_pylist(rows[number::4]), shards / f"{number}.parquet")

    ray.init(num_cpus=3, include_dashboard=False)  # two for the workers, one that reads and writes
    predicted = ray.data.read_parquet(str(shards.absolute())).map_batches(
        BatchPredictor,
        fn_constructor_kwargs={"model": str(run.output_dir.absolute())},
        batch_size=256,
        batch_format="pyarrow",
        concurrency=2,
    )
    predicted.write_parquet(str((options.output_dir / "ray").absolute()))
    ray.shutdown()

    found = sorted(parquet.read_table(options.output_dir / "ray").to_pylist(), key=lambda row: row["number"])
    alone = Predictor(run.output_dir)(sorted(rows, key=lambda row: row["number"]))
    same = sum(row["label"] == other["label"] for row, other in zip(found, alone, strict=True))
    print(f"{len(found)} rows of {len(rows)}, {same / len(rows):.1%} with the label that one process gives them")


if __name__ == "__main__":
    main()
