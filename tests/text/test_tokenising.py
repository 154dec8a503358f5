"""Tokenising: the same ids on any number of threads, and none that mean something else."""

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from xmodular.text import tokenising as tokenising_module
from xmodular.text.tokenising import Encoder, tokenise
from xmodular.vocabulary import train_tokenizer


def test_special_tokens_in_text_are_text():
    lines = ["the <mask> house </s> <pad> sees", "<s>", "the river <unk>", "＜mask＞"]
    tokenizer = train_tokenizer(
        {"en": [*lines, "the house sees bread and <s> the </s> river"] * 20}, 330, byte_fallback=True
    )
    (step,) = tokenise([[line] for line in lines], Encoder(tokenizer))
    assert np.flatnonzero(np.isin(step.tokens, tokenizer.all_special_ids)).tolist() == [
        place - 1 for place in (*step.documents[1:], len(step.tokens))
    ]  # the lines' ends alone
    rows = np.split(step.tokens, step.documents[1:])
    assert [tokenizer.decode(row[:-1]) for row in rows] == [*lines[:-1], "<mask>"]  # NFKC
    assert (step.lines, step.characters) == (4, sum(map(len, lines)))


def test_a_tokenizer_that_cuts_and_fills_up_does_neither_here(tokenizer):
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.enable_truncation(3)
    backend.enable_padding(length=64)
    other = PreTrainedTokenizerFast(tokenizer_object=backend, **tokenizer.special_tokens_map)
    units = [["the house sees the river and the market"], ["bread"]]
    (one,), (same,) = tokenise(units, Encoder(tokenizer)), tokenise(units, Encoder(other))
    assert one.tokens.tolist() == same.tokens.tolist()


def test_units_are_found_again_behind_the_steps_borders(tokenizer, monkeypatch):
    units = [[f"the house {number}" for number in range(size)] for size in (3, 1, 7, 2, 5)]
    (whole,) = tokenise(units, Encoder(tokenizer))
    monkeypatch.setattr(tokenising_module, "_LINES_A_STEP", 4)
    steps = list(tokenise(units, Encoder(tokenizer)))
    assert len(steps) == 5
    np.testing.assert_array_equal(np.concatenate([step.tokens for step in steps]), whole.tokens)
    offsets = np.cumsum([0, *(len(step.tokens) for step in steps)])
    found = [offset + place for offset, step in zip(offsets, steps, strict=False) for place in step.documents]
    assert found == whole.documents


def test_threads_do_not_matter(tokenizer, monkeypatch):
    units = [[f"the house sees the river {number}"] * (1 + number % 3) for number in range(3000)]
    found = []
    for parallel in ("false", "true"):
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallel)
        found.append([(step.tokens.tolist(), step.documents) for step in tokenise(units, Encoder(tokenizer))])
    assert len(found[0]) > 2
    assert found[0] == found[1]


def test_an_error_of_the_text_comes_through(tokenizer):
    def units():
        yield ["the house"]
        raise ValueError("broken text")

    with pytest.raises(ValueError, match="broken text"):
        list(tokenise(units(), Encoder(tokenizer)))
