"""What the modeling tests share: tiny models, ragged batches, the way to the peer and back, and the comparison.

The peer is transformers' own X-MOD. Both libraries meet on disk only: one saves, the other loads.
"""

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models import xmod as peer

import xmodular
from xmodular import XmodConfig
from xmodular.tasks import Example, Task

LANGUAGES = ("en_XX", "de_DE", "sw_KE")
TOLERANCE = 1e-5

# The two families of released checkpoints, by the fields that set them apart.
BASE_FLAGS: dict[str, Any] = {}
LARGE_FLAGS: dict[str, Any] = {
    "pre_norm": True,
    "adapter_reduction_factor": 4,
    "adapter_layer_norm": True,
    "adapter_reuse_layer_norm": False,
    "ln_before_adapter": False,
}

# Results in which padded positions mean nothing, by the axis of the tokens.
_PER_TOKEN = ("hidden_states", "last_hidden_state", "logits", "start_logits", "end_logits")
_PER_QUERY = ("attentions", "cross_attentions")


def tiny_options(**over: Any) -> dict[str, Any]:
    """Fields of a model that runs in a millisecond; sizes are chosen so that no two axes agree."""
    options: dict[str, Any] = {
        "vocab_size": 99,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
        "max_position_embeddings": 40,
        "layer_norm_eps": 1e-5,
        "languages": list(LANGUAGES),
    }
    return options | over


def tiny_config(**over: Any) -> XmodConfig:
    """Our configuration of a tiny model; see `tiny_options`."""
    return XmodConfig(**tiny_options(**over))


def scatter_weights(model: nn.Module, seed: int = 0) -> None:
    """Draw every parameter anew, wide enough that no path can hide: norms away from one, biases away from zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(1.0 + 0.3 * noise)
            elif "embeddings" in name or parameter.dim() == 1:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(1.5 * noise / parameter.shape[-1] ** 0.5)


def tiny_model(cls: type[PreTrainedModel], attention: str = "eager", seed: int = 0, **over: Any) -> PreTrainedModel:
    """One of our classes with scattered weights, in evaluation mode."""
    model = cls(tiny_config(**over))
    model.set_attn_implementation(attention)
    scatter_weights(model, seed)
    return model.eval()


def tiny_peer(name: str, attention: str = "eager", seed: int = 0, **over: Any) -> PreTrainedModel:
    """The peer's class of that name with scattered weights, in evaluation mode."""
    model = getattr(peer, name)(peer.XmodConfig(**tiny_options(**over)))
    model.set_attn_implementation(attention)
    scatter_weights(model, seed)
    return model.eval()


def reload(model: PreTrainedModel, cls: type[PreTrainedModel], path: Path, **options: Any) -> PreTrainedModel:
    """Save under `path`, load with `cls`; keeps the attention backend and evaluation mode."""
    model.save_pretrained(path)
    options.setdefault("attn_implementation", model.config._attn_implementation)
    return cls.from_pretrained(path, **options).eval()


def peer_of(model: PreTrainedModel, path: Path, **options: Any) -> PreTrainedModel:
    """The peer's model with the weights of ours, by way of disk."""
    return reload(model, getattr(peer, type(model).__name__), path, **options)


def ours_from_peer(theirs: PreTrainedModel, path: Path, **options: Any) -> PreTrainedModel:
    """Our model with the weights of the peer's, by way of disk."""
    return reload(theirs, getattr(xmodular, type(theirs).__name__), path, **options)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """The parameters themselves, by public name: what the reference computes (and differentiates) from."""
    return dict(model.named_parameters())


def ragged_batch(
    lengths: Sequence[int] = (7, 3, 9, 5),
    languages: str = "interleaved",
    num_languages: int = len(LANGUAGES),
    side: str = "right",
    seed: int = 0,
    vocab_size: int = 99,
) -> dict[str, Tensor]:
    """Rows of different length with `input_ids`, `attention_mask` and `lang_ids`.

    Args:
        languages: `single` (one language, not the first where there are several), `interleaved` (every row another,
            none beside its like) or `tokens` (every token its own, `(batch, sequence)`).
        side: where the padding stands.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, longest = len(lengths), max(lengths)
    input_ids = torch.full((batch, longest), 1)
    attention_mask = torch.zeros(batch, longest, dtype=torch.long)
    for row, length in enumerate(lengths):
        tokens = torch.randint(4, vocab_size, (length,), generator=generator)
        tokens[0], tokens[-1] = 0, 2
        place = slice(0, length) if side == "right" else slice(longest - length, longest)
        input_ids[row, place] = tokens
        attention_mask[row, place] = 1
    if languages == "single":
        lang_ids = torch.full((batch,), min(1, num_languages - 1))
    elif languages == "interleaved":
        lang_ids = torch.arange(batch) * 2 % num_languages
    elif languages == "tokens":
        lang_ids = torch.randint(0, num_languages, (batch, longest), generator=generator)
    else:
        raise ValueError(f"languages={languages!r}: single, interleaved or tokens")
    return {"input_ids": input_ids, "attention_mask": attention_mask, "lang_ids": lang_ids}


def labels_like(batch: Mapping[str, Tensor], classes: int, share: float = 0.5, seed: int = 3) -> Tensor:
    """Labels for a share of the real tokens, -100 elsewhere; at least one is set."""
    generator = torch.Generator().manual_seed(seed)
    real = batch["attention_mask"].bool()
    labels = torch.randint(0, classes, real.shape, generator=generator)
    chosen = real & (torch.rand(real.shape, generator=generator) < share)
    chosen[0, 1] = True
    return labels.masked_fill(~chosen, -100)


def _listed(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _field(result: Any, name: str) -> Any:
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)


def assert_same_outputs(
    ours: Any,
    theirs: Any,
    mask: Tensor | None = None,
    atol: float = TOLERANCE,
    fields: Iterable[str] | None = None,
    padding_is_zero: bool = False,
) -> None:
    """Equal results on real tokens.

    Args:
        ours: an output of ours.
        theirs: an output of the peer, or anything with attributes of the same names.
        mask: `(batch, sequence)`, nonzero at real tokens; None where all are.
        fields: names to compare; default: everything that `theirs` has. A name that one side lacks is an error.
        padding_is_zero: also demand zeros in our hidden states at padded positions.
    """
    if fields is None:  # without cross-attention the peer has an empty tuple of it
        fields = [name for name in theirs if name != "past_key_values" and theirs[name] != ()]
    names = list(fields)
    assert names, "nothing to compare"
    real = None if mask is None else mask.bool()
    for name in names:
        mine, other = _field(ours, name), _field(theirs, name)
        assert mine is not None, f"our result has no {name}"
        assert other is not None, f"the other result has no {name}"
        mine, other = _listed(mine), _listed(other)
        assert len(mine) == len(other), f"{name}: {len(mine)} tensors, not {len(other)}"
        for index, (a, b) in enumerate(zip(mine, other, strict=True)):
            assert a.shape == b.shape, f"{name}[{index}]: {tuple(a.shape)}, not {tuple(b.shape)}"
            if padding_is_zero and name in ("hidden_states", "last_hidden_state") and real is not None:
                assert not a[~real].any(), f"{name}[{index}] is not zero at padded positions"
            if real is not None and name in _PER_TOKEN and a.shape[:2] == real.shape:
                a, b = a[real], b[real]
            elif real is not None and name in _PER_QUERY:
                a, b = a.transpose(1, 2)[real], b.transpose(1, 2)[real]
            torch.testing.assert_close(a, b, atol=atol, rtol=0, msg=lambda m, n=f"{name}[{index}]": f"{n}: {m}")


def assert_same_state(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """The same names, and bit-identical tensors under them."""
    assert set(ours) == set(theirs), f"only one side has {sorted(set(ours) ^ set(theirs))}"
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), f"{name} differs"


def assert_round_trip(model: PreTrainedModel, path: Path) -> PreTrainedModel:
    """Saving and loading gives back the same configuration and weights; returns the loaded model."""
    again = reload(model, type(model), path)
    assert_same_state(again.state_dict(), model.state_dict())
    ignored = {"_name_or_path", "transformers_version", "dtype", "architectures"}
    mine, other = (
        {key: value for key, value in m.config.to_dict().items() if key not in ignored} for m in (again, model)
    )
    assert mine == other
    return again


def assert_same_gradients(ours: nn.Module, theirs: nn.Module, atol: float = TOLERANCE) -> None:
    """Equal gradients under equal names; a parameter without gradient on our side has none or zeros on theirs."""
    grads = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    mine = dict(ours.named_parameters())
    assert set(mine) == set(grads), f"only one side has {sorted(set(mine) ^ set(grads))}"
    touched = 0
    for name, parameter in mine.items():
        other = grads[name]
        if parameter.grad is None:
            assert other is None or not other.any(), f"{name} has a gradient in the peer only"
            continue
        touched += 1
        expected = torch.zeros_like(parameter) if other is None else other
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(
            parameter.grad, expected, atol=atol * scale, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert touched, "no gradient anywhere"


def example_of(task: Task, language: str | None = None, **values: Any) -> Example:
    """The example that a row's values give."""
    texts, gold = task.parse(values)
    return Example(texts, gold, "rows.jsonl:1", language=language)


def with_own_vocabulary(run: Any) -> Any:
    """A run's model, in which Swahili reads with a copy of the vocabulary under other ids."""
    model = copy.deepcopy(run.model)
    content = json.loads(run.tokenizer.backend_tokenizer.to_str())
    pieces = content["model"]["vocab"]
    moved = [*range(4), *reversed(range(4, len(pieces) - 1)), len(pieces) - 1]  # special tokens stay
    content["model"]["vocab"] = [pieces[old] for old in moved]
    words = model.get_input_embeddings().weight.detach()[moved]
    bias = model.lm_head.bias.detach()[moved] if hasattr(model, "lm_head") else None
    model.set_vocabulary("sw", json.dumps(content), words, bias)
    return model
