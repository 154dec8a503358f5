"""Fill a mask in three languages with one model, which reads each through that language's adapter.

python examples/fill_mask.py
"""

from __future__ import annotations

from prepare import arguments, prepare

from xmodular import XmodForMaskedLM, fill_mask

TEXTS = {
    "en": "The <mask> won the match.",
    "de": "Die <mask> hat das Spiel gewonnen.",
    "fr": "L'équipe a gagné le <mask>.",
}


def main() -> None:
    _, base = prepare(arguments(__doc__))
    model = XmodForMaskedLM.from_pretrained(base, languages=list(TEXTS))  # reads three adapters of eight
    for language, text in TEXTS.items():
        for filling in fill_mask(model, text, language=language, top_k=3):
            print(f"{language}  {filling.probability:.2f}  {filling.text}")


if __name__ == "__main__":
    main()
