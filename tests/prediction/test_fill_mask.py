"""Masks are filled by the language's own adapter and vocabulary."""

import pytest
import torch

from tests.support import with_own_vocabulary
from xmodular import fill_mask
from xmodular.errors import ConfigurationError, InputError, LanguageError


def test_fill_mask(base_run):
    fillings = fill_mask(base_run.model, "the <mask> sees the <mask>", language="en", top_k=3)
    assert [filling.mask for filling in fillings] == [0, 0, 0, 1, 1, 1]
    tokenizer = base_run.tokenizer
    ids = tokenizer("the <mask> sees the <mask>", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = base_run.model(ids, lang_ids=base_run.model.lang_ids("en")).logits[0]
    logits[:, tokenizer.all_special_ids] = -torch.inf
    place = int((ids[0] == tokenizer.mask_token_id).nonzero()[0])
    best = logits[place].softmax(-1).topk(3)
    assert [filling.probability for filling in fillings[:3]] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert fillings[0].piece == tokenizer.decode([int(best.indices[0])]).strip()
    assert fillings[0].text.count("<mask>") == 1
    with pytest.raises(InputError, match="no <mask> in the text"):
        fill_mask(base_run.model, "the house", language="en")
    with pytest.raises(LanguageError, match=r"'gsw'.*de_DE"):
        fill_mask(base_run.model, "<mask>", language="gsw")
    with pytest.raises(InputError, match="this model reads 32 at most"):
        fill_mask(base_run.model, "house " * 60 + "<mask>", language="en")


def test_fill_mask_by_a_relative(base_run):
    own = fill_mask(base_run.model, "der <mask>", language="de")
    assert fill_mask(base_run.model, "der <mask>", language="gsw", fallback="relative") == own


def test_fill_mask_needs_a_masked_language_model(topic_run):
    with pytest.raises(ConfigurationError, match="is a XmodForSequenceClassification"):
        fill_mask(topic_run.model, "<mask>", language="en")


def test_masks_are_filled_in_the_languages_own_vocabulary(base_run):
    plain = fill_mask(base_run.model, "nyumba <mask> mto", language="sw", top_k=3)
    own = fill_mask(with_own_vocabulary(base_run), "nyumba <mask> mto", language="sw", top_k=3)
    assert [(filling.text, filling.piece) for filling in own] == [(filling.text, filling.piece) for filling in plain]
