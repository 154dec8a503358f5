"""Hand a language over: a pack out of one model, into a fine-tuned one that never had it.

    python examples/language_packs.py

A topic classifier is fine-tuned in English on a model with English and German only. Swahili then comes in as a pack
from the pretrained model, and the comparison shows that nothing else moved.
"""

from __future__ import annotations

from prepare import arguments, prepare

from xmodular import XmodForSequenceClassification, diff, evaluate, finetune, pack_install, pack_save


def main() -> None:
    options = arguments(__doc__)
    corpus, base = prepare(options)
    out = options.output_dir

    small = XmodForSequenceClassification.from_pretrained(base, languages=["en", "de"], num_labels=6)
    train = corpus / "topic" / "en_XX.train.jsonl"
    finetune(small, train, language="en", output_dir=out / "topic", epochs=3, learning_rate=1e-3, overwrite=True)

    pack_save(base, language="Swahili", output_dir=out / "packs" / "sw", licence="apache-2.0", overwrite=True)
    pack_install(out / "packs" / "sw", model=out / "topic", output_dir=out / "topic-sw", overwrite=True)

    certificate = diff(out / "topic", out / "topic-sw", allow=["sw"])
    print(f"Added: {', '.join(sorted(certificate.added))}. All else identical: {certificate.ok}")

    test = {code: corpus / "topic" / f"{code}.test.jsonl" for code in ("en_XX", "de_DE", "sw_KE")}
    for row in evaluate(out / "topic-sw", test, adapter=("right",)).rows:
        if row.metric == "accuracy" and row.adapter == "right":
            print(f"{row.language}  {row.value:.3f}")


if __name__ == "__main__":
    main()
