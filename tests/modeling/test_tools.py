"""What tools around the model rely on: gradients of what is returned, hooks, checkpointing, prefixes, threads."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedTokenizerFast, StaticCache, pipeline

import xmodular
from tests.support import TOLERANCE, ragged_batch, scatter_weights, tiny_config, tiny_model
from xmodular import XmodForCausalLM, XmodForMaskedLM, XmodForMultipleChoice, XmodModel
from xmodular.errors import ConfigurationError, InputError
from xmodular.vocabulary import train_tokenizer


@pytest.mark.parametrize("layout", ["packed", "grid"])
@pytest.mark.parametrize("what", ["attentions", "hidden_states"])
def test_what_is_returned_is_part_of_the_graph(what: str, layout: str) -> None:
    """The gradient of a returned tensor is that of the loss by it: a small change of it changes the loss as much."""
    model = tiny_model(XmodModel, "sdpa", layout=layout)
    batch, head_mask = ragged_batch(), torch.tensor([1.0, 0.5, 2.0, 1.0])
    asked = {"output_attentions": what == "attentions", "output_hidden_states": what == "hidden_states"}
    outputs = model(**batch, **asked, head_mask=head_mask)
    returned = outputs[what][1]
    returned.retain_grad()
    outputs.last_hidden_state.square().sum().backward()
    assert returned.grad is not None
    assert returned.grad.abs().max() > 0.01
    real = batch["attention_mask"].bool()
    padded = returned.transpose(1, 2)[~real] if what == "attentions" else returned[~real]
    assert not padded.any()
    if what == "attentions":  # and all that flows on flows through it: by the product rule with the values
        with torch.no_grad():
            packed = model(**batch, **asked, head_mask=head_mask)
        torch.testing.assert_close(returned.detach(), packed.attentions[1], atol=TOLERANCE, rtol=0)


def test_no_gradient_passes_attentions_by() -> None:
    """With a block in the way of the returned probabilities, query and key get no gradient."""
    model = tiny_model(XmodModel, "sdpa")
    outputs = model(**ragged_batch(), output_attentions=True)
    for probabilities in outputs.attentions:
        probabilities.register_hook(torch.zeros_like)
    outputs.last_hidden_state.square().sum().backward()
    attention = model.encoder.layer[0].attention.self
    assert not attention.query.weight.grad.any()
    assert not attention.key.weight.grad.any()
    assert attention.value.weight.grad.any()


def test_cross_attentions_are_part_of_the_graph() -> None:
    model = tiny_model(XmodModel, "sdpa", is_decoder=True, add_cross_attention=True)
    states = torch.randn(4, 6, 32, generator=torch.Generator().manual_seed(0))
    outputs = model(**ragged_batch(), encoder_hidden_states=states, output_attentions=True)
    for probabilities in (*outputs.attentions, *outputs.cross_attentions):
        probabilities.retain_grad()
    outputs.last_hidden_state.square().sum().backward()
    assert all(each.grad.any() for each in (*outputs.attentions, *outputs.cross_attentions))


@pytest.mark.parametrize(("layout", "shapes"), [("packed", {(24, 32)}), ("grid", {(4, 9, 32)})])
@pytest.mark.parametrize("kind", ["single", "interleaved", "tokens"])
def test_hooks_on_layers_see_the_documented_shapes(layout: str, shapes: set[tuple[int, ...]], kind: str) -> None:
    model = tiny_model(XmodModel, "sdpa", layout=layout)
    seen: list[tuple[int, ...]] = []

    def note(module: nn.Module, args: Any, output: Any) -> None:
        seen.append(tuple((output[0] if isinstance(output, tuple) else output).shape))
        seen.append(tuple(args[0].shape))

    layer = model.encoder.layer[0]
    for module in (layer, layer.attention.self, layer.output.adapter_modules):
        module.register_forward_hook(note)
    batch = ragged_batch(languages=kind)
    with torch.no_grad():
        found = model(**batch).last_hidden_state
        expected = tiny_model(XmodModel, "sdpa")(**batch).last_hidden_state
    assert set(seen) == shapes
    assert len(seen) == 6
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_other_layouts_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="layout is 'flat': allowed are 'packed', 'grid'"):
        tiny_config(layout="flat")


def checkpoint(model: Any, reentrant: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the newest name of the method is not in older releases
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})


def gradients(model: Any, reentrant: bool | None, **inputs: Any) -> dict[str, Tensor]:
    """The gradients of a training step, those of floating inputs as well."""
    model.train()
    if reentrant is not None:
        checkpoint(model, reentrant)
    inputs = {
        name: value.clone().requires_grad_() if value.is_floating_point() else value for name, value in inputs.items()
    }
    torch.manual_seed(0)
    model(**inputs).last_hidden_state.square().sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return found | {name: value.grad for name, value in inputs.items() if value.is_floating_point()}


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_with_cross_attention(reentrant: bool) -> None:
    """The encoder's states get their gradient, from every layer."""
    over: dict[str, Any] = {"is_decoder": True, "add_cross_attention": True}
    inputs = ragged_batch() | {"encoder_hidden_states": torch.randn(4, 6, 32)}
    expected = gradients(tiny_model(XmodModel, "sdpa", **over), None, **inputs)
    found = gradients(tiny_model(XmodModel, "sdpa", **over), reentrant, **inputs)
    assert found["encoder_hidden_states"].any()
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_an_encoder_below_a_checkpointed_decoder_is_walked_back_once() -> None:
    decoder = tiny_model(XmodModel, "sdpa", is_decoder=True, add_cross_attention=True).train()
    checkpoint(decoder, True)
    encoder = tiny_model(XmodModel, "sdpa")
    states = encoder(**ragged_batch()).last_hidden_state
    decoder(**ragged_batch(), encoder_hidden_states=states).last_hidden_state.square().sum().backward()
    assert encoder.encoder.layer[0].attention.self.query.weight.grad.any()


def test_reentrant_checkpointing_repeats_the_dropout_of_many_tokens() -> None:
    """More tokens than a chunk of inference: the pass without gradients works like the one that repeats it."""
    batch = ragged_batch((38,) * 30, "single")
    over: dict[str, Any] = {"hidden_dropout_prob": 0.5, "num_hidden_layers": 1}
    expected = gradients(tiny_model(XmodModel, "sdpa", **over), False, **batch)
    found = gradients(tiny_model(XmodModel, "sdpa", **over), True, **batch)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-3, rtol=1e-3, msg=name)


def prefix(model: Any, batch: int, length: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Keys and values to stand before every layer's own, as prefix tuning trains them."""
    generator = torch.Generator().manual_seed(length)
    shape = (batch, model.config.num_attention_heads, length, 8)
    pairs = torch.randn(model.config.num_hidden_layers, 2, *shape, generator=generator)
    return tuple((keys.requires_grad_(), values.requires_grad_()) for keys, values in pairs)


@pytest.mark.parametrize("form", ["tuple", "cache"])
@pytest.mark.parametrize("position", ["absolute", "relative_key"])
def test_an_encoder_attends_to_a_prefix_and_leaves_it_alone(form: str, position: str) -> None:
    """Row by row, without padding, equals the batch; the keys and values are the caller's own, and have gradients."""
    model = tiny_model(XmodModel, "sdpa", position_embedding_type=position)
    batch, pairs = ragged_batch((7, 3, 9, 5)), prefix(model, 4, 2)
    past = DynamicCache([(keys, values) for keys, values in pairs]) if form == "cache" else pairs
    mask = torch.cat((torch.ones(4, 2).long(), batch["attention_mask"]), 1)
    without = model(**batch).last_hidden_state
    for _ in range(2):  # a second time, nothing has changed
        found = model(**{**batch, "attention_mask": mask}, past_key_values=past)
        assert found.past_key_values is None
        for row, length in enumerate((7, 3, 9, 5)):
            alone = model(
                batch["input_ids"][row : row + 1, :length],
                batch["lang_ids"][row : row + 1],
                past_key_values=tuple((keys[row : row + 1], values[row : row + 1]) for keys, values in pairs),
            ).last_hidden_state[0]
            torch.testing.assert_close(found.last_hidden_state[row, :length], alone, atol=TOLERANCE, rtol=0)
    assert not found.last_hidden_state[1, 3:].any()
    assert (found.last_hidden_state - without).abs().max() > 0.01
    found.last_hidden_state.sum().backward()
    assert all(keys.grad.any() and values.grad.any() for keys, values in pairs)


def test_a_prefix_by_hand_equals_a_decoders_cache() -> None:
    """What an encoder computes with a prefix of zeros that is masked is what it computes without, three places on."""
    model = tiny_model(XmodModel, "eager")
    batch = ragged_batch()
    mask = torch.cat((torch.zeros(4, 3).long(), batch["attention_mask"]), 1)
    positions = model.embeddings.count_positions((4, 9), batch["input_ids"], mask.device, 3)
    found = model(**{**batch, "attention_mask": mask}, past_key_values=prefix(model, 4, 3)).last_hidden_state
    expected = model(**batch, position_ids=positions).last_hidden_state
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_with_a_prefix_languages_at_padding_are_not_read() -> None:
    """Neither where vocabularies are told apart."""
    model = tiny_model(XmodForMaskedLM, "sdpa", vocabularies={"sw_KE": 50})
    batch = ragged_batch(vocab_size=50)
    mask = torch.cat((torch.ones(4, 3).long(), batch["attention_mask"]), 1)
    ids = torch.full((4, 9), 2)
    given = {"input_ids": batch["input_ids"], "attention_mask": mask, "past_key_values": prefix(model, 4, 3)}
    expected = model(**given, lang_ids=ids).logits
    found = model(**given, lang_ids=ids.masked_fill(batch["attention_mask"] == 0, 0)).logits
    torch.testing.assert_close(found, expected)


def test_a_prefix_of_fixed_size_is_refused() -> None:
    model = tiny_model(XmodModel, "sdpa")
    with pytest.raises(InputError, match="StaticCache of fixed size"):
        model(**ragged_batch(), past_key_values=StaticCache(config=model.config, max_cache_len=20))


@pytest.mark.parametrize("name", ["XmodModel", "XmodForMaskedLM", "XmodForSequenceClassification", "XmodForCausalLM"])
@pytest.mark.parametrize("layout", ["packed", "grid"])
def test_one_id_means_the_whole_batch(name: str, layout: str) -> None:
    model = tiny_model(getattr(xmodular, name), "sdpa", layout=layout, is_decoder=name == "XmodForCausalLM")
    batch = ragged_batch()
    for language in (0, 2):
        one = model(**{**batch, "lang_ids": torch.tensor([language])})[0]
        all_of_them = model(**{**batch, "lang_ids": torch.full((4,), language)})[0]
        torch.testing.assert_close(one, all_of_them, atol=TOLERANCE, rtol=0)


def test_one_id_means_all_choices() -> None:
    model = tiny_model(XmodForMultipleChoice, "sdpa")
    batch = {name: value.unflatten(0, (2, 2)) for name, value in ragged_batch().items()}
    one = model(**{**batch, "lang_ids": torch.tensor([2])}).logits
    torch.testing.assert_close(one, model(**{**batch, "lang_ids": torch.full((2, 2), 2)}).logits)
    assert not torch.allclose(one, model(**{**batch, "lang_ids": torch.tensor([1])}).logits)


@pytest.mark.parametrize("more", [{"num_beams": 3}, {"num_return_sequences": 3, "num_beams": 3}, {}])
def test_one_id_generates_for_the_whole_batch(more: dict[str, Any]) -> None:
    model = tiny_model(XmodForCausalLM, "sdpa", is_decoder=True)
    ids = torch.randint(4, 99, (2, 5), generator=torch.Generator().manual_seed(0))
    one, both = (model.generate(ids, lang_ids=given, max_new_tokens=4, do_sample=False, **more) for given in (
        torch.tensor([2]), torch.tensor([2, 2])
    ))  # fmt: skip
    assert torch.equal(one, both)


def test_threads_that_share_a_pipeline_each_have_their_language() -> None:
    words: PreTrainedTokenizerFast = train_tokenizer({"en": ["The doctor opens the house by the river."] * 20}, 40)
    xmodular.register()
    cases: list[tuple[str, type, str]] = [
        ("text-classification", xmodular.XmodForSequenceClassification, "The doctor opens"),
        ("token-classification", xmodular.XmodForTokenClassification, "The doctor opens"),
        ("fill-mask", XmodForMaskedLM, "The doctor <mask> the house"),
        ("feature-extraction", XmodModel, "The doctor opens"),
    ]
    for task, cls, text in cases:
        model = tiny_model(cls, "sdpa", vocab_size=len(words), num_hidden_layers=1)
        scatter_weights(model, 1)
        pipe = pipeline(task, model=model, tokenizer=words)
        codes = ["en", "de", "sw"] * 8
        expected = {code: pipe(text, language=code) for code in codes[:3]}
        assert expected["de"] != expected["sw"]
        seen: list[Any] = []
        # Whatever comes between the languages of two threads: the shared configuration never has one.
        model.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(module.config.default_language))
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda code, pipe=pipe, text=text: pipe(text, language=code), codes))
        assert found == [expected[code] for code in codes]
        assert set(seen) == {None}


def test_zero_shot_classification_speaks_the_language_too() -> None:
    words = train_tokenizer({"en": ["The doctor opens the house by the river."] * 20}, 40)
    xmodular.register()
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    ids = {label: index for index, label in labels.items()}
    model = tiny_model(
        xmodular.XmodForSequenceClassification, "sdpa", vocab_size=len(words), id2label=labels, label2id=ids
    )
    pipe = pipeline("zero-shot-classification", model=model, tokenizer=words)
    found = {code: pipe("The doctor", ["house", "river"], language=code)["scores"] for code in ("de", "sw")}
    assert found["de"] != found["sw"]
    with model.language("sw"):
        assert pipe("The doctor", ["house", "river"])["scores"] == pytest.approx(found["sw"], abs=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_peft_as_for_other_encoders() -> None:
    """LoRA takes effect on adapters too, and a prefix trains; `lang_ids` go through."""
    peft = pytest.importorskip("peft")
    batch = ragged_batch()
    labels = torch.tensor([0, 1, 0, 1])
    base = tiny_model(xmodular.XmodForSequenceClassification, "sdpa")
    lora = peft.LoraConfig(r=2, target_modules=["query", "dense1"], init_lora_weights=False)
    wrapped = peft.get_peft_model(base, lora).eval()
    changed = wrapped(**batch).logits
    with wrapped.disable_adapter():
        assert (wrapped(**batch).logits - changed).abs().max() > 0.01
    torch.testing.assert_close(wrapped.merge_and_unload()(**batch).logits, changed, atol=1e-4, rtol=0)
    base = tiny_model(xmodular.XmodForSequenceClassification, "sdpa")
    shape = {"num_layers": 2, "num_attention_heads": 4, "token_dim": 32}
    prefixed = peft.get_peft_model(base, peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3, **shape))
    prefixed(**batch, labels=labels).loss.backward()
    assert prefixed.prompt_encoder["default"].embedding.weight.grad.any()
