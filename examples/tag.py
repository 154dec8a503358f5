"""Learn to find names of people, organisations and places in English, find them in seven other languages.

    python examples/tag.py

Files are CoNLL: a word, a tab and its IOB2 tag on each line, a blank line after each sentence.
"""

from __future__ import annotations

from prepare import arguments, prepare

from xmodular import evaluate, finetune


def main() -> None:
    options = arguments(__doc__)
    corpus, base = prepare(options)
    run = finetune(
        base,
        corpus / "ner" / "en_XX.train.conll",
        task="tag",
        language="en",
        output_dir=options.output_dir / "names",
        epochs=2,
        learning_rate=5e-4,
        overwrite=True,
    )
    results = evaluate(run.model, corpus / "ner", output_dir=options.output_dir / "names" / "eval", overwrite=True)
    for metric in results.metrics():
        print(f"{metric}: {results.mean('right', metric):.1%} over the other languages")


if __name__ == "__main__":
    main()
