"""Find the answer to a question in a text: learned in English from a file in SQuAD's layout, asked in German.

python examples/answer_questions.py
"""

from __future__ import annotations

import json

from prepare import arguments, prepare

from xmodular import Predictor, evaluate, finetune


def main() -> None:
    options = arguments(__doc__)
    corpus, base = prepare(options)
    run = finetune(
        base,
        corpus / "qa" / "en_XX.train.json",
        task="qa",
        language="en",
        output_dir=options.output_dir / "qa",
        max_length=48,
        stride=12,  # tokens that neighbouring windows of a context share
        epochs=2,
        learning_rate=5e-4,
        overwrite=True,
    )
    results = evaluate(
        run.model, corpus / "qa", languages=("en", "de", "sw"), output_dir=run.output_dir / "eval", overwrite=True
    )
    for metric in results.metrics():
        print(f"{metric}: {results.mean('right', metric):.1%} over German and Swahili")

    german = json.loads((corpus / "qa" / "de_DE.test.json").read_text(encoding="utf-8"))
    paragraph = german["data"][0]["paragraphs"][0]
    row = {"context": paragraph["context"], "question": paragraph["qas"][0]["question"]}
    (answer,) = Predictor(run.output_dir)([row], language="de")
    print(f"{row['question']} {answer['answer']!r}, at {answer['start']} ({answer['score']:.2f})")


if __name__ == "__main__":
    main()
