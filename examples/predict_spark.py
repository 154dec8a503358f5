"""Predict Parquet files with Spark: the model runs in the Python workers of the executors, on batches of pandas.

pip install pyspark
python examples/predict_spark.py
"""

from __future__ import annotations

import json
import os
import random
import sys

import pyarrow
from prepare import arguments, prepare
from pyarrow import parquet
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

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

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # on a cluster, a Python that has xmodular
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 256)
    frame = spark.read.parquet(str(shards.absolute()))
    predictor = BatchPredictor(str(run.output_dir.absolute()))  # goes to the workers without its weights
    schema = from_arrow_schema(predictor.schema(to_arrow_schema(frame.schema)))
    predicted = frame.mapInPandas(predictor.stream, schema)
    predicted.write.mode("overwrite").parquet(str((options.output_dir / "spark").absolute()))
    spark.stop()

    found = sorted(parquet.read_table(options.output_dir / "spark").to_pylist(), key=lambda row: row["number"])
    alone = Predictor(run.output_dir)(sorted(rows, key=lambda row: row["number"]))
    same = sum(row["label"] == other["label"] for row, other in zip(found, alone, strict=True))
    print(f"{len(found)} rows of {len(rows)}, {same / len(rows):.1%} with the label that one process gives them")


if __name__ == "__main__":
    main()
