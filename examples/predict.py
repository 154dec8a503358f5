"""Predict the topic of a mixed stream: languages given, identified, or left to a relative.

    python examples/predict.py

The model learns topics from English rows; one file with rows of all languages is then labelled in one go.
"""

from __future__ import annotations

import json
import random

from prepare import arguments, prepare

from xmodular import Predictor, finetune
from xmodular.prediction import predict


def main() -> None:
    options = arguments(__doc__)
    corpus, base = prepare(options)
    run = finetune(
        base,
        corpus / "topic" / "en_XX.train.jsonl",
        language="en",
        output_dir=options.output_dir / "topic",
        epochs=3,
        learning_rate=5e-4,
        overwrite=True,
    )

    rows = []
    for path in sorted((corpus / "topic").glob("*.test.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            rows.append({**json.loads(line), "lang": path.name.split(".")[0]})
    random.Random(0).shuffle(rows)
    mixed = options.output_dir / "mixed.jsonl"
    mixed.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

    told = {"given": {"columns": {"language": "lang"}}, "identified": {"identify": True}}
    for name, more in told.items():
        output = options.output_dir / f"{name}.jsonl"
        predict(run.output_dir, mixed, output, overwrite=True, **more)
        found = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        right = sum(row["predicted_label"] == row["label"] for row in found) / len(found)
        own = sum(row["adapter"] == row["lang"] for row in found) / len(found)
        print(f"Languages {name}: {right:.1%} right, {own:.1%} of {len(found)} rows read by their own adapter")

    predictor = Predictor(run.output_dir, fallback="relative")
    (row,) = predictor([rows[0]["text"]], language="gsw")  # no adapter for Swiss German
    print(f"Swiss German is read by {row['adapter']}")


if __name__ == "__main__":
    main()
