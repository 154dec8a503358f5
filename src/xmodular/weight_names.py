"""What the weights of a model are called: the public names, which released checkpoints have too.

In a model with a head the encoder's names begin with `PREFIX`, in a bare encoder they do not:
``roberta.encoder.layer.3.output.adapter_modules.de_DE.dense1.weight``. What fairseq calls them: `conversion/table.py`.
"""

from __future__ import annotations

import re

PREFIX = "roberta."
WORDS = f"{PREFIX}embeddings.word_embeddings.weight"
POSITIONS = f"{PREFIX}embeddings.position_embeddings.weight"
TYPES = f"{PREFIX}embeddings.token_type_embeddings.weight"
LM_WEIGHT, LM_BIAS, LM_BIAS_TOO = "lm_head.decoder.weight", "lm_head.bias", "lm_head.decoder.bias"
# Second names of shared weights, and the first ones; a file holds them or not.
TIED = {LM_WEIGHT: WORDS, LM_BIAS_TOO: LM_BIAS}
# Old files hold this, but it is no weight.
POSITION_IDS = "embeddings.position_ids"

LM_HEAD, TASK_HEADS, POOLER = "lm_head.", ("classifier.", "qa_outputs."), "pooler."
ADAPTER, ADAPTER_NORM = ".adapter_modules.", ".adapter_layer_norm."
# Of a language's own vocabulary.
OWN_WORDS, OWN_BIAS = "embeddings.language_embeddings.", "lm_head.language_bias."
# In a pack, where a language needs no code.
PACK_WORDS, PACK_BIAS = "word_embeddings.weight", LM_BIAS

# The language that a weight belongs to, of a bare encoder or of a head.
LANGUAGE = re.compile(r"(?:\.adapter_modules|^embeddings\.language_embeddings|^lm_head\.language_bias)\.([^.]+)")
# The same wherever it stands: what wraps a module puts a name before those of its weights.
LANGUAGE_IN_MODULE = re.compile(r"\.(?:adapter_modules|language_embeddings|language_bias)\.([^.]+)")


def bare(name: str) -> str:
    """The name of an encoder's weight without what stands before it in a model with a head."""
    return name.removeprefix(PREFIX)


def of_adapter(layer: int | str, language: str, rest: str) -> str:
    """The name of an adapter's weight in a bare encoder; `rest` is its name in the adapter."""
    return f"encoder.layer.{layer}.output{ADAPTER}{language}.{rest}"


def in_pack(layer: int | str, rest: str) -> str:
    """The name of an adapter's weight in a pack; `rest` is its name in the adapter."""
    return f"layer.{layer}.{rest}"
