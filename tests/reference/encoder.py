"""X-MOD written slowly and plainly: the oracle of the modeling tests.

No modules, no batching: one row at a time, one head at a time, functions of a state dict with the public weight
names and of a configuration. Everything is differentiable, nothing drops out, nothing is fused.

Shapes: Q queries (the tokens given now), K keys (past tokens first, then the Q), E tokens of an encoder,
H hidden size, D head size, V vocabulary.

Sources: Pfeiffer et al. 2022 (the layer and its adapter), Liu et al. 2019 (positions that skip padding),
Shaw et al. 2018 and Huang et al. 2020, method 4 (relative positions, in the form that BERT gave them).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))),
    "gelu_new": lambda x: x * 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))),
    "relu": lambda x: x.clamp(min=0.0),
    "silu": lambda x: x * torch.sigmoid(x),
}


@dataclass
class Encoded:
    """What the stack returns for a batch.

    `hidden_states` holds the embeddings, then every layer (the last one after the final LayerNorm, where there is
    one); attentions are the probabilities that met the values, so after the head mask. At padded positions the
    numbers mean nothing.
    """

    hidden_states: list[Tensor]  # layers + 1 times (batch, Q, H)
    attentions: list[Tensor]  # layers times (batch, heads, Q, K)
    cross_attentions: list[Tensor]  # layers times (batch, heads, Q, E), empty without cross-attention
    past_key_values: list[tuple[Tensor, ...]]  # layers times 2 or 4 of (batch, heads, K or E, D)

    @property
    def last_hidden_state(self) -> Tensor:
        return self.hidden_states[-1]


@dataclass
class _Row:
    """One row of a batch on its way through the layers."""

    hidden: Tensor  # (Q, H)
    languages: list[int]  # Q indices
    visible: Tensor  # (Q, K) bool
    past: Sequence[tuple[Tensor, ...]] | None
    encoder: Tensor | None  # (E, H)
    encoder_visible: Tensor | None  # (Q, E) bool
    hidden_states: list[Tensor] = field(default_factory=list)
    attentions: list[Tensor] = field(default_factory=list)
    cross_attentions: list[Tensor] = field(default_factory=list)
    past_key_values: list[tuple[Tensor, ...]] = field(default_factory=list)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def layer_norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * state[f"{name}.weight"] + state[f"{name}.bias"]


def activation(config: Any) -> Callable[[Tensor], Tensor]:
    return ACTIVATIONS[config.hidden_act] if isinstance(config.hidden_act, str) else config.hidden_act


def prefix_of(state: State) -> str:
    """`roberta.` for a model with a head, nothing for the bare model."""
    return "roberta." if any(name.startswith("roberta.") for name in state) else ""


def positions_of(ids: Tensor | None, length: int, past_length: int, pad: int) -> list[int]:
    """Position of every token of a row: real tokens count up from `pad + 1`, padding stays at `pad`."""
    if ids is None:
        return [past_length + pad + 1 + index for index in range(length)]
    positions, seen = [], past_length
    for token in ids.tolist():
        seen += token != pad
        positions.append(seen + pad if token != pad else pad)
    return positions


def embed_row(state: State, config: Any, words: Tensor, positions: Sequence[int], types: Sequence[int]) -> Tensor:
    """Embeddings of one row: words (Q, H) plus token type, plus position where positions are absolute; normalised."""
    name = f"{prefix_of(state)}embeddings"
    rows = []
    for word, position, token_type in zip(words, positions, types, strict=True):
        row = word + state[f"{name}.token_type_embeddings.weight"][token_type]
        if config.position_embedding_type == "absolute":
            row = row + state[f"{name}.position_embeddings.weight"][position]
        rows.append(row)
    return layer_norm(state, f"{name}.LayerNorm", torch.stack(rows), config.layer_norm_eps)


def attend_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor,
    gate: Tensor | float,
    distances: Tensor | None,
    config: Any,
) -> tuple[Tensor, Tensor]:
    """One head: query (Q, D), key and value (K, D), visible (Q, K). Returns the mixture (Q, D) and the weights."""
    scores = query @ key.T
    if distances is not None:
        # queries are the newest of the keys, so the first of them stands behind the past
        first = len(key) - len(query)
        rows = []
        for i in range(len(query)):
            row = []
            for j in range(len(key)):
                vector = distances[first + i - j + config.max_position_embeddings - 1]
                term = query[i] @ vector
                if config.position_embedding_type == "relative_key_query":
                    term = term + key[j] @ vector
                row.append(term)
            rows.append(torch.stack(row))
        scores = scores + torch.stack(rows)
    scores = scores / math.sqrt(query.shape[-1])
    weights = []
    for row, seen in zip(scores, visible, strict=True):
        if seen.any():
            exponentials = torch.exp(row - row[seen].max()) * seen
            weights.append(exponentials / exponentials.sum())
        else:
            weights.append(torch.zeros_like(row))
    probabilities = torch.stack(weights) * gate
    return probabilities @ value, probabilities


def attention_block(
    state: State,
    name: str,
    config: Any,
    x: Tensor,
    keys_from: Tensor | None,
    visible: Tensor,
    gates: Sequence[Tensor | float],
    past: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Attention with its residual and norm. `keys_from` None: attend to the row itself, behind its past.

    Returns the new states (Q, H), probabilities (heads, Q, K), and the keys and values (heads, K, D).
    """
    size = config.hidden_size // config.num_attention_heads
    normed = layer_norm(state, f"{name}.output.LayerNorm", x, config.layer_norm_eps) if config.pre_norm else x
    query = linear(state, f"{name}.self.query", normed)
    if keys_from is not None and past is not None:
        keys, values = past  # a text that was read before is not read again
    else:
        source = normed if keys_from is None else keys_from
        flat_keys = linear(state, f"{name}.self.key", source)
        flat_values = linear(state, f"{name}.self.value", source)
        keys = torch.stack(list(flat_keys.split(size, dim=-1)))
        values = torch.stack(list(flat_values.split(size, dim=-1)))
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=1), torch.cat([past[1], values], dim=1)
    distances = state.get(f"{name}.self.distance_embedding.weight")
    mixtures, weights = [], []
    for head, head_query in enumerate(query.split(size, dim=-1)):
        mixture, probabilities = attend_head(
            head_query, keys[head], values[head], visible, gates[head], distances, config
        )
        mixtures.append(mixture)
        weights.append(probabilities)
    out = linear(state, f"{name}.output.dense", torch.cat(mixtures, dim=-1)) + x
    if not config.pre_norm:
        out = layer_norm(state, f"{name}.output.LayerNorm", out, config.layer_norm_eps)
    return out, torch.stack(weights), (keys, values)


def adapter_block(state: State, name: str, config: Any, x: Tensor, languages: Sequence[int]) -> Tensor:
    """The language adapter of a layer, one token at a time; `name` is the layer's `output`."""
    residual = x
    if config.adapter_layer_norm:
        x = layer_norm(state, f"{name}.adapter_layer_norm", x, config.layer_norm_eps)
    elif config.adapter_reuse_layer_norm:
        x = layer_norm(state, f"{name}.LayerNorm", x, config.layer_norm_eps)
    if config.ln_before_adapter:
        residual = x
    act = activation(config)
    adapted = []
    for token, language in zip(x, languages, strict=True):
        adapter = f"{name}.adapter_modules.{config.languages[language]}"
        adapted.append(linear(state, f"{adapter}.dense2", act(linear(state, f"{adapter}.dense1", token))))
    return torch.stack(adapted) + residual


def feed_forward_block(state: State, name: str, config: Any, x: Tensor, languages: Sequence[int]) -> Tensor:
    """Feed-forward and adapter, with residuals and norms; `name` is the layer."""
    norm = f"{name}.output.LayerNorm"
    normed = layer_norm(state, norm, x, config.layer_norm_eps) if config.pre_norm else x
    wide = activation(config)(linear(state, f"{name}.intermediate.dense", normed))
    out = linear(state, f"{name}.output.dense", wide) + x
    out = adapter_block(state, f"{name}.output", config, out, languages)
    return out if config.pre_norm else layer_norm(state, norm, out, config.layer_norm_eps)


def run_row(state: State, config: Any, row: _Row, gates: Sequence[Sequence[Tensor | float]]) -> None:
    """Take one row through all layers and leave the results in it."""
    stack = f"{prefix_of(state)}encoder"
    x = row.hidden
    row.hidden_states.append(x)
    for index in range(config.num_hidden_layers):
        name = f"{stack}.layer.{index}"
        past = row.past[index] if row.past is not None else None
        x, weights, kept = attention_block(
            state, f"{name}.attention", config, x, None, row.visible, gates[index], past[:2] if past else None
        )
        row.attentions.append(weights)
        if row.encoder is not None:
            x, weights, crossed = attention_block(
                state,
                f"{name}.crossattention",
                config,
                x,
                row.encoder,
                row.encoder_visible,
                gates[index],
                past[2:] if past and len(past) == 4 else None,
            )
            row.cross_attentions.append(weights)
            kept = (*kept, *crossed)
        row.past_key_values.append(kept)
        x = feed_forward_block(state, name, config, x, row.languages)
        row.hidden_states.append(x)
    if config.pre_norm:
        row.hidden_states[-1] = layer_norm(state, f"{stack}.LayerNorm", x, config.layer_norm_eps)


def visible_keys(mask: Tensor | None, queries: int, past: int, causal: bool) -> Tensor:
    """Which keys a query sees, (Q, past + Q), from the mask of one row.

    A mask over keys (K,) meets causality in a decoder; a mask over pairs (Q, K) is taken at its word.
    """
    keys = past + queries
    seen = torch.zeros(queries, keys, dtype=torch.bool)
    for i in range(queries):
        for j in range(keys):
            if mask is None:
                allowed = True
            elif mask.dim() == 2:
                allowed = bool(mask[i, j])
            else:
                allowed = bool(mask[j])
            if causal and (mask is None or mask.dim() == 1):
                allowed = allowed and j <= past + i
            seen[i, j] = allowed
    return seen


def language_rows(lang_ids: Tensor | int, batch: int, length: int) -> list[list[int]]:
    """One language index a token, from one number, `(batch,)` or `(batch, Q)`."""
    if isinstance(lang_ids, int):
        return [[lang_ids] * length for _ in range(batch)]
    if lang_ids.dim() == 1:
        return [[int(index)] * length for index in lang_ids]
    return [[int(index) for index in row] for row in lang_ids]


def encode(
    state: State,
    config: Any,
    input_ids: Tensor | None = None,
    lang_ids: Tensor | int = 0,
    attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    inputs_embeds: Tensor | None = None,
    head_mask: Tensor | None = None,
    encoder_hidden_states: Tensor | None = None,
    encoder_attention_mask: Tensor | None = None,
    past_key_values: Sequence[tuple[Tensor, ...]] | None = None,
) -> Encoded:
    """The whole stack, row by row; arguments as the page's `forward`."""
    shape = input_ids.shape if input_ids is not None else inputs_embeds.shape[:2]
    batch, length = int(shape[0]), int(shape[1])
    past = int(past_key_values[0][0].shape[2]) if past_key_values is not None else 0
    words_table = state[f"{prefix_of(state)}embeddings.word_embeddings.weight"]
    languages = language_rows(lang_ids, batch, length)
    gates: list[Sequence[Tensor | float]]
    if head_mask is None:
        gates = [[1.0] * config.num_attention_heads] * config.num_hidden_layers
    elif head_mask.dim() == 1:
        gates = [list(head_mask)] * config.num_hidden_layers
    else:
        gates = [list(layer) for layer in head_mask]

    rows = []
    for b in range(batch):
        ids = input_ids[b] if input_ids is not None else None
        words = words_table[ids] if ids is not None else inputs_embeds[b]
        if position_ids is None:
            positions = positions_of(ids, length, past, config.pad_token_id)
        else:
            positions = position_ids.expand(batch, length)[b].tolist()
        types = [0] * length if token_type_ids is None else token_type_ids.expand(batch, length)[b].tolist()
        encoder, encoder_visible = None, None
        if encoder_hidden_states is not None:
            encoder = encoder_hidden_states[b]
            row_mask = torch.ones(len(encoder)) if encoder_attention_mask is None else encoder_attention_mask[b]
            encoder_visible = row_mask.bool().expand(length, -1)
        row = _Row(
            hidden=embed_row(state, config, words, positions, types),
            languages=languages[b],
            visible=visible_keys(
                None if attention_mask is None else attention_mask[b], length, past, config.is_decoder
            ),
            past=None if past_key_values is None else [tuple(t[b] for t in layer) for layer in past_key_values],
            encoder=encoder,
            encoder_visible=encoder_visible,
        )
        run_row(state, config, row, gates)
        rows.append(row)

    def stacked(results: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        return [torch.stack(list(layer)) for layer in zip(*results, strict=True)]

    return Encoded(
        hidden_states=stacked([row.hidden_states for row in rows]),
        attentions=stacked([row.attentions for row in rows]),
        cross_attentions=stacked([row.cross_attentions for row in rows]),
        past_key_values=[
            tuple(stacked([row.past_key_values[layer] for row in rows])) for layer in range(config.num_hidden_layers)
        ],
    )
