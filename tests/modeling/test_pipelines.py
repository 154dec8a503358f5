"""transformers' pipelines with a language per call; those of other models stay as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    TextClassificationPipeline,
    pipeline,
)

import xmodular
from tests.support import tiny_model
from xmodular.errors import ConfigurationError, InputError, LanguageError
from xmodular.vocabulary import train_tokenizer

TEXT = "The doctor opens the house"


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    lines = [f"{TEXT} by the river.", "She likes bread in the morning."] * 20
    return train_tokenizer({"en": lines}, 70)


def model_with(name: str, words: PreTrainedTokenizerFast) -> Any:
    xmodular.register()
    return tiny_model(getattr(xmodular, name), attention="sdpa", vocab_size=len(words))


@pytest.mark.parametrize("language", ["de", "sw"])
def test_text_classification(words: PreTrainedTokenizerFast, language: str) -> None:
    model = model_with("XmodForSequenceClassification", words)
    pipe = pipeline("text-classification", model=model, tokenizer=words)
    with torch.no_grad():
        expected = model(**words(TEXT, return_tensors="pt"), lang_ids=model.lang_ids(language)).logits[0].softmax(-1)
    (found,) = pipe([TEXT], language=language, batch_size=2)
    assert found["score"] == pytest.approx(float(expected.max()), abs=1e-5)
    assert model.config.default_language is None
    with model.language(language):
        assert pipe(TEXT)[0]["score"] == pytest.approx(found["score"], abs=1e-6)
    spoken = pipeline("text-classification", model=model, tokenizer=words, language=language)
    assert spoken(TEXT)[0]["score"] == pytest.approx(found["score"], abs=1e-6)


@pytest.mark.parametrize(
    ("task", "name", "text"),
    [
        ("token-classification", "XmodForTokenClassification", TEXT),
        ("fill-mask", "XmodForMaskedLM", f"{TEXT} by <mask> river"),
        ("feature-extraction", "XmodModel", TEXT),
    ],
)
def test_each_call_has_its_language(task: str, name: str, text: str, words: PreTrainedTokenizerFast) -> None:
    pipe = pipeline(task, model=model_with(name, words), tokenizer=words)
    german, swahili, again = (pipe(text, language=code) for code in ("de", "sw", "German"))
    assert german == again
    assert german != swahili
    with pytest.raises(LanguageError, match="language of the input is unknown"):
        pipe(text)


class Kept(torch.nn.Module):
    """A model inside another, as PEFT keeps it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def get_base_model(self) -> Any:
        return self.model

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name in ("model", "_modules") else getattr(self.model, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


@pytest.mark.parametrize("wrap", [Kept, lambda model: torch.compile(model, backend="eager")], ids=["peft", "compiled"])
def test_a_wrapped_model_speaks_the_language_too(wrap: Any, words: PreTrainedTokenizerFast) -> None:
    model = model_with("XmodForSequenceClassification", words)
    model.set_default_language("en")
    plain, wrapped = (pipeline("text-classification", model=each, tokenizer=words) for each in (model, wrap(model)))
    for code in ("de", "sw"):
        assert wrapped(TEXT, language=code)[0]["score"] == pytest.approx(
            plain(TEXT, language=code)[0]["score"], abs=1e-5
        )


def test_long_text_is_cut_where_the_positions_end(words: PreTrainedTokenizerFast) -> None:
    """Also with a tokenizer that knows no length, which is not changed."""
    assert words.model_max_length > 1e9
    long = " ".join([TEXT] * 60)
    tagger = pipeline(
        "token-classification", model=model_with("XmodForTokenClassification", words), tokenizer=words, language="de"
    )
    model = tagger.model
    assert len(tagger(long)) == model.config.max_position_embeddings - model.config.pad_token_id - 3  # without <s> </s>
    pipe = pipeline(
        "text-classification", model=model_with("XmodForSequenceClassification", words), tokenizer=words, language="de"
    )
    assert pipe(long, truncation=True)[0]["score"] > 0
    assert words.model_max_length > 1e9


def test_a_language_that_is_not_there_is_named(words: PreTrainedTokenizerFast) -> None:
    model = model_with("XmodForSequenceClassification", words)
    pipe = pipeline("text-classification", model=model, tokenizer=words)
    with pytest.raises(LanguageError, match="Klingon"):
        pipe(TEXT, language="Klingon")
    model.set_vocabulary("sw", words.backend_tokenizer.to_str(), torch.randn(len(words), model.config.hidden_size))
    with pytest.raises(InputError, match="sw_KE has its own vocabulary"):
        pipe(TEXT, language="sw")
    with model.language("sw"), pytest.raises(InputError, match="sw_KE has its own vocabulary"):
        pipe(TEXT)


def test_text_is_generated_in_a_language(words: PreTrainedTokenizerFast) -> None:
    xmodular.register()
    model = tiny_model(xmodular.XmodForCausalLM, attention="sdpa", vocab_size=len(words), is_decoder=True)
    pipe = pipeline("text-generation", model=model, tokenizer=words)
    found = {code: pipe(TEXT, language=code, max_new_tokens=8, do_sample=False) for code in ("de", "sw")}
    assert found["de"] != found["sw"]
    with model.language("sw"):
        assert pipe(TEXT, max_new_tokens=8, do_sample=False) == found["sw"]


def test_other_models_get_the_original_classes(words: PreTrainedTokenizerFast) -> None:
    config = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    model = BertForSequenceClassification(config).eval()
    xmodular.register()
    xmodular.register()  # once is enough, and twice does no harm
    pipe = pipeline("text-classification", model=model, tokenizer=words)
    assert type(pipe) is TextClassificationPipeline
    assert pipe(TEXT)[0] == TextClassificationPipeline(model=model, tokenizer=words)(TEXT)[0]
    assert type(pipeline("sentiment-analysis", model=model, tokenizer=words)) is TextClassificationPipeline


def by_words(texts: list[str]) -> list[tuple[str, float]]:
    """German with an umlaut, Swahili with "ny", nothing sure else."""
    return [("de", 0.9) if "ä" in text else ("sw", 0.8) if "ny" in text else ("en", 0.1) for text in texts]


@pytest.mark.parametrize("batch_size", [None, 3])
def test_languages_are_identified(batch_size: int | None, words: PreTrainedTokenizerFast) -> None:
    """Each text of a batch is read by its own adapter, and the answer says which one."""
    model = model_with("XmodForSequenceClassification", words)
    pipe = pipeline("text-classification", model=model, tokenizer=words)
    texts = ["the ä house", f"{TEXT} ny", TEXT, "ä"]
    found = pipe(texts, identify=by_words, default_language="en", batch_size=batch_size)
    for text, row, code in zip(texts, found, ("de_DE", "sw_KE", "en_XX", "de_DE"), strict=True):
        expected = pipe(text, language=code)[0]
        assert row["label"] == expected["label"]
        assert row["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert row["adapter"] == code
        assert (row["language"], row["confidence"]) == {"de_DE": (code, 0.9), "sw_KE": (code, 0.8)}.get(
            code, (None, 0.1)
        )
    assert set(pipe(texts[0], language="sw")[0]) == {"label", "score"}
    always = pipeline("text-classification", model=model, tokenizer=words, identify=by_words, threshold=0.85)
    assert always(texts[0])[0] == pipe(texts[0], identify=by_words)[0]
    assert always(texts[1])[0]["adapter"] == "en_XX"  # below the threshold
    assert always(texts[0], language="sw")[0] == pipe(texts[0], language="sw")[0]  # given, so not identified
    assert always({"text": TEXT, "text_pair": "ä"})["adapter"] == "de_DE"
    assert all(each["adapter"] == "de_DE" for each in always(texts[0], top_k=None))
    assert pipe("Die Ärztin öffnet das Haus", identify=True)[0]["language"] == "de_DE"
    assert pipe("Die Ärztin öffnet", identify=True, identify_languages=["sw"])[0]["language"] in (None, "sw_KE")


@pytest.mark.parametrize(
    ("task", "name", "text", "more"),
    [
        ("token-classification", "XmodForTokenClassification", "the ä house", {}),
        ("fill-mask", "XmodForMaskedLM", "the ä <mask> by the <mask>", {}),
        ("feature-extraction", "XmodModel", "the ä house", {}),
        ("zero-shot-classification", "XmodForSequenceClassification", "the ä house", {"candidate_labels": ["a", "b"]}),
        ("text-generation", "XmodForCausalLM", "the ä house", {"max_new_tokens": 4, "do_sample": False}),
    ],
)
def test_every_pipeline_identifies(
    task: str, name: str, text: str, more: dict[str, Any], words: PreTrainedTokenizerFast
) -> None:
    xmodular.register()
    over = {"is_decoder": True} if name == "XmodForCausalLM" else {}
    if task == "zero-shot-classification":
        over = {"id2label": {0: "entailment", 1: "no"}, "label2id": {"entailment": 0, "no": 1}}
    model = tiny_model(getattr(xmodular, name), attention="sdpa", vocab_size=len(words), **over)
    pipe = pipeline(task, model=model, tokenizer=words)
    found, expected = pipe([text, text], identify=by_words, **more), pipe([text, text], language="de", **more)
    told = {"language": "de_DE", "adapter": "de_DE", "confidence": 0.9}

    def with_told(made: Any) -> Any:
        if isinstance(made, dict):
            return {**made, **told}
        return [with_told(each) for each in made] if isinstance(made, list) else made

    assert found == with_told(expected)
    assert expected != pipe([text, text], language="sw", **more)


def test_what_identification_refuses(words: PreTrainedTokenizerFast) -> None:
    model = model_with("XmodForSequenceClassification", words)
    pipe = pipeline("text-classification", model=model, tokenizer=words)
    for wrong, message in (
        ({"identify": "spans"}, "one adapter"),
        ({"identify": "nonsense"}, "must be py3langid"),
        ({"identify_languages": ["de"]}, "need identify"),
        ({"identify": True, "threshold": 2}, "threshold"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            pipe(TEXT, **wrong)
    model.set_vocabulary("de", words.backend_tokenizer.to_str(), torch.randn(len(words), model.config.hidden_size))
    with pytest.raises(InputError, match="de_DE has its own vocabulary"):
        pipe("ä", identify=by_words)
