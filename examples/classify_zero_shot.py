"""Learn the topic of a sentence in English, recognise it in seven other languages.

    python examples/classify_zero_shot.py

Fine-tuning leaves embeddings and adapters as they were pretrained, so that each language's adapter still fits. The
table has a column with the language's own adapter, one with English's for all, and two that need no model.
"""

from __future__ import annotations

from prepare import arguments, prepare

from xmodular import XmodForSequenceClassification, evaluate, finetune
from xmodular.demo.parallel_corpus import TOPICS


def main() -> None:
    options = arguments(__doc__)
    corpus, base = prepare(options)
    model = XmodForSequenceClassification.from_pretrained(base, num_labels=len(TOPICS))
    run = finetune(
        model,
        corpus / "topic" / "en_XX.train.jsonl",
        dev=corpus / "topic" / "en_XX.dev.jsonl",
        language="English",
        output_dir=options.output_dir / "topic",
        epochs=2,
        learning_rate=5e-4,
        overwrite=True,
    )
    results = evaluate(run.model, corpus / "topic", output_dir=options.output_dir / "topic" / "eval", overwrite=True)
    own, english = results.mean("right"), results.mean("source")
    print(f"Mean accuracy in the other languages: {own:.1%} with their own adapters, {english:.1%} with English's.")


if __name__ == "__main__":
    main()
