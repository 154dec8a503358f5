"""Text in ten scripts and a tokenizer for it, without any files."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache

import pytest
from transformers import PreTrainedTokenizerFast

from xmodular.vocabulary import train_tokenizer

# Letters of each script; accents and vowel signs that follow a letter are among them where a script has such.
SCRIPTS: Mapping[str, str] = {
    "latin": "abcdefghijklmnopqrstuvwxyzéßœ",
    "greek": "αβγδεζηθικλμνξοπρστυφχψωάέ",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщыьэюя",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "devanagari": "अआइईउऊएओकखगघचजटडतदनपबमयरलवसह" + "ािीुूेो",
    "thai": "กขคงจชซญดตถทนบปผพมยรลวสหอ" + "ะาำเแโ",
    "han": "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可",
    "hangul": "가나다라마바사아자차카타파하고노도로모보소오조초",
    "georgian": "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
}
_UNSPACED = ("thai", "han")


@lru_cache
def _lexicon(script: str) -> list[str]:
    draw = random.Random(script)
    return ["".join(draw.choices(SCRIPTS[script], k=draw.randint(1, 7))) for _ in range(120)]


def written(script: str, words: int, draw: random.Random) -> str:
    """Made-up words with punctuation, numbers, quotes and now and then two spaces."""
    lexicon = _lexicon(script)
    parts = []
    for _ in range(words):
        word = draw.choice(lexicon)
        parts.append(
            draw.choice(["", "", "", "«", "(", "“"]) + word + draw.choice(["", "", "", ",", ".", "»", ")", "”"])
        )
        if draw.random() < 0.1:
            parts.append(str(draw.randint(1, 2030)))
        parts.append("" if script in _UNSPACED and draw.random() < 0.8 else draw.choice([" ", " ", " ", "  ", "\n"]))
    return "".join(parts).strip()


@pytest.fixture(scope="session")
def scripts_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with pieces of several letters in ten scripts, and for `the house ... river`."""
    draw = random.Random(0)
    text = {script: [written(script, 12, draw) for _ in range(60)] for script in SCRIPTS}
    text["latin"] += ["the house stands by the river and the market", "a river runs behind every house"] * 60
    return train_tokenizer(text, 1200)
