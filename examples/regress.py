"""Give a pair of sentences a number: how far the first supports the second, from 0 to 2, in eight languages.

    python examples/regress.py

The numbers are made from the labels of the inference files, which CSV files then have as a column of their own.
"""

from __future__ import annotations

import csv
import json

from prepare import arguments, prepare

from xmodular import evaluate, finetune

DEGREES = {"contradiction": 0.0, "neutral": 1.0, "entailment": 2.0}


def main() -> None:
    options = arguments(__doc__)
    corpus, base = prepare(options)
    folder = options.output_dir / "degrees"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (corpus / "nli").glob("*.jsonl"):
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        with (folder / path.with_suffix(".csv").name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("first", "second", "degree"))
            writer.writerows((row["premise"], row["hypothesis"], DEGREES[row["label"]]) for row in rows)

    columns = {"premise": "first", "hypothesis": "second", "score": "degree"}
    run = finetune(
        base,
        folder / "en_XX.train.csv",
        task="regress",
        columns=columns,
        language="en",
        output_dir=options.output_dir / "degree",
        epochs=2,
        learning_rate=5e-4,
        overwrite=True,
    )
    results = evaluate(run.model, folder, columns=columns, output_dir=run.output_dir / "eval", overwrite=True)
    for metric in results.metrics():
        print(f"{metric}: {results.mean('right', metric):.3f} over the other languages")


if __name__ == "__main__":
    main()
