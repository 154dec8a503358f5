"""Logits and losses of rows in batches, against one row at a time."""

import numpy as np
import pytest
import torch

from xmodular.data import MaskedLMCollator
from xmodular.errors import ConfigurationError, DataError, InputError
from xmodular.tasks import block_statistics, load_saved, perplexity_metrics, predict_logits, tokenizer_of


def test_batched_logits_are_those_of_single_rows(topic_run):
    random = np.random.default_rng(0)
    rows = [[0, *random.integers(4, 150, size=size).tolist(), 2] for size in (9, 1, 20, 4, 4, 13, 2)]
    lang_ids = [0, 2, 1, 1, 0, 2, 2]
    logits = predict_logits(topic_run.model, rows, lang_ids, pad_id=1, batch_size=3)
    for row, lang_id, found in zip(rows, lang_ids, logits, strict=True):
        with torch.no_grad():
            expected = topic_run.model(torch.tensor([row]), lang_ids=torch.tensor([lang_id])).logits[0]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    with pytest.raises(InputError, match="7 rows and 2 language ids"):
        predict_logits(topic_run.model, rows, [0, 1], pad_id=1)


def test_block_losses_are_the_models_own(base_run):
    tokenizer = base_run.tokenizer
    collator = MaskedLMCollator(
        special_ids=tokenizer.all_special_ids, mask_id=tokenizer.mask_token_id, pad_id=1, vocab_size=len(tokenizer)
    )
    random = np.random.default_rng(1)
    blocks = [np.array([0, *random.integers(4, 190, size=24), *[1] * 7]) for _ in range(9)]
    lang_ids, draws = [number % 3 for number in range(9)], list(range(100, 109))
    sums = block_statistics(base_run.model, blocks, lang_ids, draws, collator, batch_size=4)
    again = block_statistics(base_run.model, blocks, lang_ids, draws, collator, batch_size=9)
    np.testing.assert_allclose(sums, again, atol=1e-4)
    for block, lang_id, draw, own in zip(blocks, lang_ids, draws, sums, strict=True):
        batch = collator([{"input_ids": block, "lang_id": lang_id, "draw": draw}]) | {"sparse_prediction": False}
        with torch.no_grad():
            output = base_run.model(**batch)
        labelled = batch["labels"] != -100
        assert own[2] == int(labelled.sum())
        assert own[0] / own[2] == pytest.approx(float(output.loss), abs=1e-4)
        assert own[1] == int((output.logits.argmax(-1) == batch["labels"])[labelled].sum())
    values = perplexity_metrics(sums.sum(0))
    assert values["perplexity"] == pytest.approx(np.exp(sums[:, 0].sum() / sums[:, 2].sum()))


def test_other_adapters_read_the_same_masks(base_run):
    tokenizer = base_run.tokenizer
    collator = MaskedLMCollator(
        special_ids=tokenizer.all_special_ids, mask_id=tokenizer.mask_token_id, pad_id=1, vocab_size=len(tokenizer)
    )
    blocks = [np.array([0, *range(4, 30)]), np.array([0, *range(50, 76)])]
    own, other = (block_statistics(base_run.model, blocks, ids, [0, 1], collator) for ids in ([0, 1], [2, 2]))
    np.testing.assert_array_equal(own[:, 2], other[:, 2])
    assert not np.allclose(own[:, 0], other[:, 0])


def test_what_cannot_be_loaded_is_named(tmp_path, base_run):
    with pytest.raises(ConfigurationError, match=r"holds no model: there is no config.json"):
        load_saved(tmp_path)
    with pytest.raises(DataError, match=r"neither tokenizer.json nor"):
        tokenizer_of(base_run.model, tmp_path)
