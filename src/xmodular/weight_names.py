"""The names of a model's weights: the public ones, also used in released checkpoints.

In a model with a head, the encoder's names begin with `PREFIX`, such as
``roberta.encoder.layer.3.output.adapter_modules.de_DE.dense1.weight``; in a bare encoder they do not. For fairseq's
names, see `conversion/table.py`.
"""

from __future__ import annotations

import re

PREFIX = "roberta."
WORDS = f"{PREFIX}embeddings.word_embeddings.weight"
POSITIONS = f"{PREFIX}embeddings.position_embeddings.weight"
TYPES = f"{PREFIX}embeddings.token_type_embeddings.weight"
LM_WEIGHT, LM_BIAS, LM_BIAS_TOO = "lm_head.decoder.weight", "lm_head.bias", "lm_head.decoder.bias"
# Second names of shared weights, with the first names; files may contain the second names or not.
TIED = {LM_WEIGHT: WORDS, LM_BIAS_TOO: LM_BIAS}
# Found in old files, but not a weight.
POSITION_IDS = "embeddings.position_ids"

LM_HEAD, TASK_HEADS, POOLER = "lm_head.", ("classifier.", "qa_outputs."), "pooler."
ADAPTER, ADAPTER_NORM = ".adapter_modules.", ".adapter_layer_norm."
# Of a language's own vocabulary.
OWN_WORDS, OWN_BIAS = "embeddings.language_embeddings.", "lm_head.language_bias."
# In a pack, whose names have no language code.
PACK_WORDS, PACK_BIAS = "word_embeddings.weight", LM_BIAS

# Finds the language of a weight by its name in a bare encoder or in a head.
LANGUAGE = re.compile(r"(?:\.adapter_modules|^embeddings\.language_embeddings|^lm_head\.language_bias)\.([^.]+)")
# The same anywhere in a name: wrappers of a module add prefixes to the names of its weights.
LANGUAGE_IN_MODULE = re.compile(r"\.(?:adapter_modules|language_embeddings|language_bias)\.([^.]+)")


def bare(name: str) -> str:
    """The name of an encoder's weight without the prefix that it has in a model with a head."""
    return name.removeprefix(PREFIX)


def of_adapter(layer: int | str, language: str, rest: str) -> str:
    """The name of an adapter's weight in a bare encoder; `rest` is its name in the adapter."""
    return f"encoder.layer.{layer}.output{ADAPTER}{language}.{rest}"


def in_pack(layer: int | str, rest: str) -> str:
    """The name of an adapter's weight in a pack; `rest` is its name in the adapter."""
    return f"layer.{layer}.{rest}"
