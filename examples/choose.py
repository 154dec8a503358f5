"""Choose one of two texts (as in COPA): which sentence is about the same topic as the first? Learned in English.

python examples/choose.py
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from prepare import arguments, prepare

from xmodular import evaluate, finetune


def write_choices(source: Path, target: Path) -> None:
    """Rows of a sentence, two others and which of them is right, from a file of sentences with topics."""
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    draw = random.Random(0)
    with target.open("w", encoding="utf-8") as file:
        for row in rows:
            same = [other["text"] for other in rows if other["label"] == row["label"] and other is not row]
            others = [other["text"] for other in rows if other["label"] != row["label"]]
            if not same:
                continue
            choices = [draw.choice(others)]
            label = draw.randrange(2)
            choices.insert(label, draw.choice(same))
            made = {"premise": row["text"], "choice1": choices[0], "choice2": choices[1], "label": label}
            file.write(json.dumps(made, ensure_ascii=False) + "\n")


def main() -> None:
    options = arguments(__doc__)
    corpus, base = prepare(options)
    folder = options.output_dir / "choices"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (corpus / "topic").glob("*.jsonl"):
        write_choices(path, folder / path.name)
    run = finetune(
        base,
        folder / "en_XX.train.jsonl",
        dev=folder / "en_XX.dev.jsonl",
        task="choice",
        language="en",
        output_dir=options.output_dir / "choice",
        epochs=2,
        learning_rate=5e-4,
        overwrite=True,
    )
    results = evaluate(run.model, folder, output_dir=run.output_dir / "eval", overwrite=True)
    print(f"Mean accuracy in the other languages: {results.mean('right'):.1%}; half is chance.")


if __name__ == "__main__":
    main()
