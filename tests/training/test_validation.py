"""Validation of a language model against figures worked out from its lines one by one."""

import math

import numpy as np
import pytest
import torch

from xmodular.text import MaskedLMCollator, TextFiles, measured_text
from xmodular.training.validation import Validation


def validation_of(run, path, *, block_size, packing, probability=0.15):
    tokenizer = run.tokenizer
    collator = MaskedLMCollator(
        special_ids=tokenizer.all_special_ids,
        mask_id=tokenizer.mask_token_id,
        pad_id=1,
        vocab_size=len(tokenizer),
        probability=probability,
    )
    text = measured_text(TextFiles("en_XX", (path,), repeated=True), tokenizer, block_size, packing)
    return Validation(run.model, [text], {"en_XX": 1}, collator, unk_id=tokenizer.unk_token_id, batch_size=2)


@pytest.mark.parametrize("packing", ["fill", "lines"])
def test_bits_per_character_count_all_tokens_and_characters(base_run, tmp_path, packing):
    lines = ["the house sees bread 12.", "a doctor opens the Μάρκετ", "the house sees bread 12.", "ЖЖЖ"]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    validation = validation_of(base_run, tmp_path / "a.txt", block_size=32, packing=packing)
    values = validation.per_language()["en_XX"]
    ids = [base_run.tokenizer(line, add_special_tokens=False)["input_ids"] for line in lines]
    unknown = sum(line.count(3) for line in ids)
    tokens = sum(map(len, ids))
    hidden = [character for line in lines for character in line if not character.isascii()]
    assert unknown == 2
    assert values["unknown"] == pytest.approx(unknown / tokens)
    assert values["masked_tokens"] == round(0.15 * (tokens - unknown))
    assert values["perplexity"] == pytest.approx(math.exp(values["loss"]))
    predicted = validation._sums().sum(0)
    nats = predicted[0] / predicted[2] * (tokens - unknown) + 8 * math.log(2) * len("".join(hidden).encode())
    assert values["loss"] == pytest.approx(nats / tokens)
    characters = sum(len(line) + 1 for line in lines)
    assert values["bits_per_character"] == pytest.approx(nats / math.log(2) / characters)


def test_masks_in_lines_of_all_lengths_against_every_mask_in_turn(base_run, tmp_path):
    """Where one token of a text is masked, all its tokens in turn give what many seeds give in the mean."""
    (tmp_path / "a.txt").write_text("bread\nthe river finds a mountain\n", encoding="utf-8")
    validation = validation_of(base_run, tmp_path / "a.txt", block_size=32, packing="lines", probability=0.05)
    (text,) = validation.texts
    ordinary = ~np.isin(text.blocks, base_run.tokenizer.all_special_ids)
    losses = []
    for row, column in np.argwhere(ordinary):
        ids = torch.from_numpy(text.blocks[row : row + 1].astype(np.int64))
        masked = ids.clone()
        masked[0, column] = base_run.tokenizer.mask_token_id
        with torch.no_grad():
            logits = base_run.model(masked, attention_mask=(ids != 1).long(), lang_ids=torch.tensor([1])).logits
        losses.append(-torch.log_softmax(logits[0, column], -1)[ids[0, column]].item())
    assert len(losses) * 0.05 < 1.5  # one mask
    counts = np.zeros(text.blocks.shape)
    for seed in range(400):
        validation.collator.seed = seed
        chosen = validation.collator.choose(text.blocks)
        assert chosen.sum() == 1
        counts += chosen
    found = (counts[ordinary] * np.array(losses)).sum() / 400
    assert found == pytest.approx(np.mean(losses), abs=4 * np.std(losses) / 20)
