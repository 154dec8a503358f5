"""fairseq's X-MOD encoder written slowly and plainly, straight from a state dict with fairseq's names.

The facts are those of fairseq's `models/xmod` (the layer, the adapter and its norms), `models/roberta` (both heads)
and its transformer encoder (embeddings, positions). One row at a time, one head at a time; nothing drops out.

Shapes: Q tokens of a row, H hidden size, D head size, V pieces.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Tensor]
STACK = "encoder.sentence_encoder"
PAD = 1

# What the two families of checkpoints say of themselves (architectures xmod_base and xmod_large_prenorm).
BASE: dict[str, Any] = {
    "arch": "xmod_base",
    "encoder_normalize_before": False,
    "adapter_layer_norm": False,
    "adapter_reuse_layer_norm": True,
    "ln_before_adapter": True,
    "bottleneck": 2,
}
LARGE_PRENORM: dict[str, Any] = {
    "arch": "xmod_large_prenorm",
    "encoder_normalize_before": True,
    "adapter_layer_norm": True,
    "adapter_reuse_layer_norm": False,
    "ln_before_adapter": False,
    "bottleneck": 4,
}


def settings(flags: Mapping[str, Any], languages: Sequence[str], **over: Any) -> dict[str, Any]:
    """Fields of ``cfg.model`` of a tiny checkpoint; no two sizes agree."""
    return {
        "encoder_layers": 2,
        "encoder_embed_dim": 16,
        "encoder_ffn_embed_dim": 22,
        "encoder_attention_heads": 4,
        "max_positions": 28,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "pooler_dropout": 0.0,
        "activation_fn": "gelu",
        "pooler_activation_fn": "tanh",
        "untie_weights_roberta": False,
        "adapter_modules": True,
        "languages": list(languages),
        **flags,
        **over,
    }


def state_dict(
    args: Mapping[str, Any], *, pieces: int = 41, heads: Mapping[str, int] | None = None, seed: int = 0
) -> "OrderedDict[str, Tensor]":
    """Random weights under fairseq's names, in its order; wide enough that no path can hide.

    Args:
        args: as `settings` gives them.
        pieces: rows of the word embeddings.
        heads: classes of each classification head.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden, wide = args["encoder_embed_dim"], args["encoder_ffn_embed_dim"]
    narrow = hidden // args["bottleneck"]
    state: OrderedDict[str, Tensor] = OrderedDict()

    def draw(*shape: int, scale: float = 0.5) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    def linear(name: str, out: int, into: int) -> None:
        state[f"{name}.weight"] = draw(out, into, scale=1.5 / into**0.5)
        state[f"{name}.bias"] = draw(out)

    def norm(name: str) -> None:
        state[f"{name}.weight"] = 1 + draw(hidden, scale=0.3)
        state[f"{name}.bias"] = draw(hidden)

    state[f"{STACK}.version"] = torch.tensor([3.0])
    state[f"{STACK}.embed_tokens.weight"] = draw(pieces, hidden)
    state[f"{STACK}.embed_positions.weight"] = draw(args["max_positions"] + PAD + 1, hidden)
    norm(f"{STACK}.layernorm_embedding")
    for number in range(args["encoder_layers"]):
        layer = f"{STACK}.layers.{number}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            linear(f"{layer}.self_attn.{part}", hidden, hidden)
        norm(f"{layer}.self_attn_layer_norm")
        linear(f"{layer}.fc1", wide, hidden)
        linear(f"{layer}.fc2", hidden, wide)
        norm(f"{layer}.final_layer_norm")
        if args["adapter_layer_norm"]:
            norm(f"{layer}.adapter_layer_norm")
        for language in args["languages"]:
            linear(f"{layer}.adapter_modules.{language}.fc1", narrow, hidden)
            linear(f"{layer}.adapter_modules.{language}.fc2", hidden, narrow)
    if args["encoder_normalize_before"]:
        norm(f"{STACK}.layer_norm")
    state["encoder.lm_head.weight"] = state[f"{STACK}.embed_tokens.weight"]  # tied: the same storage
    state["encoder.lm_head.bias"] = draw(pieces)
    linear("encoder.lm_head.dense", hidden, hidden)
    norm("encoder.lm_head.layer_norm")
    for head, classes in (heads or {}).items():
        linear(f"classification_heads.{head}.dense", hidden, hidden)
        linear(f"classification_heads.{head}.out_proj", classes, hidden)
    return state


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def _gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def _attend(state: State, name: str, x: Tensor, heads: int) -> Tensor:
    size = x.shape[-1] // heads
    queries = _linear(state, f"{name}.q_proj", x) / math.sqrt(size)
    keys, values = _linear(state, f"{name}.k_proj", x), _linear(state, f"{name}.v_proj", x)
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        shares = torch.softmax(queries[:, part] @ keys[:, part].T, dim=-1)
        mixed.append(shares @ values[:, part])
    return _linear(state, f"{name}.out_proj", torch.cat(mixed, dim=-1))


def _adapt(state: State, layer: str, args: Mapping[str, Any], x: Tensor, language: str) -> Tensor:
    """The language's module with its norm and residual; other spellings share the module of the plain name."""
    before = x
    if args["adapter_layer_norm"]:
        x = _norm(state, f"{layer}.adapter_layer_norm", x)
    elif args["adapter_reuse_layer_norm"]:
        x = _norm(state, f"{layer}.final_layer_norm", x)
    residual = x if args["ln_before_adapter"] else before
    module = f"{layer}.adapter_modules.{language.replace('_rom', '').replace('_zaw', '')}"
    return residual + _linear(state, f"{module}.fc2", _gelu(_linear(state, f"{module}.fc1", x)))


def features(state: State, args: Mapping[str, Any], tokens: Sequence[int], language: str = "en_XX") -> Tensor:
    """States of one row without padding: (Q, H)."""
    pre_norm = args["encoder_normalize_before"]
    positions = [PAD + 1 + place for place in range(len(tokens))]
    x = state[f"{STACK}.embed_tokens.weight"][list(tokens)] + state[f"{STACK}.embed_positions.weight"][positions]
    x = _norm(state, f"{STACK}.layernorm_embedding", x)
    for number in range(args["encoder_layers"]):
        layer = f"{STACK}.layers.{number}"
        first, last = f"{layer}.self_attn_layer_norm", f"{layer}.final_layer_norm"
        inner = _norm(state, first, x) if pre_norm else x
        x = x + _attend(state, f"{layer}.self_attn", inner, args["encoder_attention_heads"])
        x = x if pre_norm else _norm(state, first, x)
        inner = _norm(state, last, x) if pre_norm else x
        x = x + _linear(state, f"{layer}.fc2", _gelu(_linear(state, f"{layer}.fc1", inner)))
        x = _adapt(state, layer, args, x, language)
        x = x if pre_norm else _norm(state, last, x)
    return _norm(state, f"{STACK}.layer_norm", x) if pre_norm else x


def lm_logits(state: State, args: Mapping[str, Any], tokens: Sequence[int], language: str = "en_XX") -> Tensor:
    """Logits of the masked language model for one row: (Q, V)."""
    x = features(state, args, tokens, language)
    x = _norm(state, "encoder.lm_head.layer_norm", _gelu(_linear(state, "encoder.lm_head.dense", x)))
    return x @ state["encoder.lm_head.weight"].T + state["encoder.lm_head.bias"]


def class_logits(
    state: State, args: Mapping[str, Any], tokens: Sequence[int], head: str, language: str = "en_XX"
) -> Tensor:
    """Logits of a classification head for one row: (classes,)."""
    first = features(state, args, tokens, language)[0]
    inner = torch.tanh(_linear(state, f"classification_heads.{head}.dense", first))
    return _linear(state, f"classification_heads.{head}.out_proj", inner)
