"""Judge whether one statement follows from another (NLI): learned in English, asked in Turkish.

python examples/pairs.py
"""

from __future__ import annotations

from prepare import arguments, prepare

from xmodular import Predictor, evaluate, finetune


def main() -> None:
    options = arguments(__doc__)
    corpus, base = prepare(options)
    run = finetune(
        base,
        corpus / "nli" / "en_XX.train.jsonl",
        dev=corpus / "nli" / "en_XX.dev.jsonl",
        language="en",
        output_dir=options.output_dir / "nli",
        recipe="xnli",
        epochs=2,  # what is said here goes before the recipe
        learning_rate=5e-4,
        overwrite=True,
    )
    results = evaluate(run.model, corpus / "nli", output_dir=options.output_dir / "nli" / "eval", overwrite=True)
    print(f"Mean accuracy in the other languages: {results.mean('right'):.1%}; a third is chance.")

    pair = {"premise": "Nina Costa Ankara'da bir otel açtı.", "hypothesis": "Nina Costa bir otel açtı."}
    (answer,) = Predictor(run.output_dir)([pair], language="tr")
    print(f"{pair['premise']} -> {pair['hypothesis']}  {answer['label']} ({answer['score']:.2f})")


if __name__ == "__main__":
    main()
