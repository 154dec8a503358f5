"""Masks are filled by the language's own adapter and vocabulary."""

import pytest
import torch

from tests.support import with_own_vocabulary
from xmodular import fill_mask
from xmodular.errors import ConfigurationError, InputError, LanguageError
from xmodular.vocabulary import text_backend


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
    with pytest.raises(InputError, match="no <mask> to fill in the text"):
        fill_mask(base_run.model, "the house", language="en")
    with pytest.raises(LanguageError, match=r"'gsw'.*de_DE"):
        fill_mask(base_run.model, "<mask>", language="gsw")
    with pytest.raises(InputError, match="this model reads at most 32"):
        fill_mask(base_run.model, "house " * 60 + "<mask>", language="en")


def test_fill_mask_by_a_relative(base_run):
    own = fill_mask(base_run.model, "der <mask>", language="de")
    assert fill_mask(base_run.model, "der <mask>", language="gsw", fallback="relative") == own


def test_fill_mask_needs_a_masked_language_model(topic_run):
    with pytest.raises(ConfigurationError, match="is an XmodForSequenceClassification"):
        fill_mask(topic_run.model, "<mask>", language="en")


def test_masks_are_filled_in_the_languages_own_vocabulary(base_run):
    plain = fill_mask(base_run.model, "nyumba <mask> mto", language="sw", top_k=3)
    own = fill_mask(with_own_vocabulary(base_run), "nyumba <mask> mto", language="sw", top_k=3)
    assert [(filling.text, filling.piece) for filling in own] == [(filling.text, filling.piece) for filling in plain]


@pytest.mark.parametrize(
    "text", ["the <mask> a", "<mask>", "a<mask>b", " x \n<mask>\ty<mask><mask> z", "\u6771<mask>\u4eac"]
)
def test_only_masks_are_special(base_run, text):
    tokenizer = base_run.tokenizer
    assert text_backend(tokenizer, but="<mask>").encode(text).ids == tokenizer(text)["input_ids"]
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    for name in ("<s>", "</s>", "<pad>", "\uff1cmask\uff1e"):
        ids = text_backend(tokenizer, but="<mask>").encode(f"{text} {name}").ids
        assert special.intersection(ids[1:-1]) == {tokenizer.mask_token_id}
        assert ids.count(tokenizer.mask_token_id) == text.count("<mask>")


def test_what_is_spelled_like_a_special_token_is_text(base_run):
    model, tokenizer, text = base_run.model, base_run.tokenizer, "the <mask> </s> a"
    ids = text_backend(tokenizer, but="<mask>").encode(text).ids
    with torch.no_grad():
        logits = model(torch.tensor([ids]), lang_ids=model.lang_ids("en")).logits[0, ids.index(tokenizer.mask_token_id)]
    logits[tokenizer.all_special_ids] = -torch.inf
    (found,) = fill_mask(model, text, language="en", top_k=1)
    assert found.probability == pytest.approx(float(logits.softmax(-1).max()), abs=1e-6)


def test_a_base_model_without_a_default_language_identifies_texts(base_run) -> None:
    (found,) = fill_mask(base_run.output_dir, "12 <mask>", identify=True, top_k=1)
    assert found.adapter == "en_XX"  # of a text without letters
