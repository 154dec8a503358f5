"""How large a model is, as it is saved and in memory."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from xmodular.configuration import XmodConfig
from xmodular.hub import hub_source
from xmodular.modeling import XmodPreTrainedModel
from xmodular.trimming.trim_report import Size
from xmodular.weight_names import POSITION_IDS, TIED
from xmodular.weights import open_weights, size_of_weights


def size_of(model: XmodPreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Size:
    """The size of a model in memory, and about that of its files: its parameters, and its tokenizers as text."""
    parameters = list(model.parameters())  # tied ones once
    memory = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    own = sum(len(text.encode()) for text in model.tokenizers.values())
    numbers = sum(parameter.numel() for parameter in parameters)
    return Size(len(model.languages), _pieces(model.config), numbers, memory, memory, _text_size(tokenizer) + own)


def size_of_source(source: str, config: XmodConfig, tokenizer: PreTrainedTokenizerFast, own: Iterable[str]) -> Size:
    """The size of a saved model with all its languages; the weights are not read.

    Args:
        source: a folder or a name on the Hub.
        config: its configuration.
        tokenizer: its tokenizer.
        own: the ``tokenizer.json`` files of languages with their own vocabulary.
    """
    name, where = hub_source(source)
    with open_weights(source) as stored:
        is_tied = {target: config.tie_word_embeddings or "bias" in target for target in TIED}
        twice = {target for target, first in TIED.items() if is_tied[target] and first in stored}
        found: list[Tensor] = [
            stored[name] for name in stored.names if name not in twice and not name.endswith(POSITION_IDS)
        ]
        numbers = sum(prod(tensor.shape) for tensor in found)
        memory = sum(prod(tensor.shape) * tensor.element_size() for tensor in found)
    tokenizers = _text_size(tokenizer) + sum(len(text.encode()) for text in own)
    files = size_of_weights(name, **where) or memory
    return Size(len(config.languages), _pieces(config), numbers, memory, files, tokenizers)


def _pieces(config: XmodConfig) -> int:
    return int(config.vocab_size + sum(config.vocabularies.values()))


def _text_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """Bytes of a tokenizer's ``tokenizer.json``."""
    return len(tokenizer.backend_tokenizer.to_str(pretty=True).encode())
