"""Characters of pieces, and what is counted for bits per character."""

import math

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from xmodular.data import LanguageBlocks, MaskedLMCollator
from xmodular.tasks import piece_characters
from xmodular.training.validation import Validation
from xmodular.vocabulary import from_json


def test_characters_of_pieces():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁the", "s", "▁", "<0x41>", "<0xC3>", "<0xA4>", "<mask>"]
    made = from_json(Tokenizer(Unigram([(piece, 0.0) for piece in pieces], unk_id=3)).to_str(), len(pieces))
    assert piece_characters(made).tolist() == [0, 0, 0, 1, 4, 1, 1, 1, 1, 0, 0]


def test_bits_per_character_count_all_tokens_and_characters(base_run, tokenizer):
    text = ["the house sees bread 12.", "a doctor opens the market"]
    special = tokenizer.all_special_ids
    rows = [[0, *tokenizer.encode(line, add_special_tokens=False), 2] for line in text]
    length = max(map(len, rows)) + 1
    blocks = np.array([row + [1] * (length - len(row)) for row in rows])
    counted = LanguageBlocks.__dataclass_fields__
    facts = {"language": "en_XX", "blocks": blocks, "tokens": 9, "lines": None}
    collator = MaskedLMCollator(special_ids=special, mask_id=special[-1], pad_id=1, vocab_size=len(tokenizer))
    validation = Validation(
        base_run.model,
        [LanguageBlocks(**{name: facts.get(name) for name in counted})],
        {"en_XX": 1},
        collator,
        characters=piece_characters(tokenizer),
        special_ids=special,
        pad_id=1,
        batch_size=2,
        most=5,
    )
    values = validation.per_language()["en_XX"]
    tokens = sum(len(row) - 2 for row in rows)
    known = sum(len(line) + 1 for line in text)  # with a space before the line's first word
    if all(3 not in row for row in rows):
        assert validation.characters["en_XX"] == known
        assert values["bits_per_character"] == pytest.approx(values["loss"] * tokens / known / math.log(2))
    assert validation.tokens["en_XX"] == sum(token not in special for row in rows for token in row)
