"""The dense encoders that X-MOD can represent: the weight names and model classes of each family.

An X-MOD layer whose adapters add nothing is a BERT layer, post-norm or pre-norm, so these encoders fit exactly. Weight
names after the model's prefix are the same, except for those in `Family.renamed`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from xmodular.weight_names import LM_HEAD, POOLER, PREFIX, TASK_HEADS


@dataclass(frozen=True)
class Family:
    """One architecture of transformers.

    Attributes:
        prefix: prefix of the encoder's weights in models with a head.
        classes: its model classes, and the corresponding ones here.
        renamed: patterns of its names and their replacements here; the first match counts; heads are distinguished by
            `heads`.
        heads: for single classes here, more rows of that kind.
        counts_padding: whether positions count columns from 0, padding included (BERT), instead of counting from
            `pad_token_id + 1` over non-padding tokens (RoBERTa).
        pre_norm: whether there is a LayerNorm before each block.
    """

    prefix: str
    classes: Mapping[str, str]
    renamed: tuple[tuple[str, str], ...] = ()
    heads: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    counts_padding: bool = False
    pre_norm: bool = False


def _classes(name: str, **others: str) -> dict[str, str]:
    """The model classes that carry a family's name, and the further ones."""
    heads = ("MaskedLM", "CausalLM", "SequenceClassification", "MultipleChoice", "TokenClassification")
    made = {f"{name}For{head}": f"XmodFor{head}" for head in (*heads, "QuestionAnswering")}
    return {f"{name}Model": "XmodModel", **made, **others}


_BERT = Family(
    "bert",
    {
        **_classes("Bert"),
        "BertLMHeadModel": "XmodForCausalLM",
        "BertForPreTraining": "XmodForMaskedLM",
    },
    renamed=(
        (r"cls\.predictions\.transform\.dense\.", "lm_head.dense."),
        (r"cls\.predictions\.transform\.LayerNorm\.", "lm_head.layer_norm."),
        (r"cls\.predictions\.", "lm_head."),
    ),
    # BERT's classifier reads the pooler; here the pooler is the first layer of the head.
    heads={
        "XmodForSequenceClassification": (
            (r"roberta\.pooler\.dense\.", "classifier.dense."),
            (r"classifier\.", "classifier.out_proj."),
        )
    },
    counts_padding=True,
)
_PRE_NORM = (
    (r"(roberta\.encoder\.layer\.\d+\.attention)\.LayerNorm\.", r"\1.output.LayerNorm."),
    (r"(roberta\.encoder\.layer\.\d+)\.intermediate\.LayerNorm\.", r"\1.output.LayerNorm."),
    (r"roberta\.LayerNorm\.", "roberta.encoder.LayerNorm."),
)
FAMILIES: Mapping[str, Family] = {
    "bert": _BERT,
    "roberta": Family("roberta", _classes("Roberta")),
    "xlm-roberta": Family("roberta", _classes("XLMRoberta")),
    "camembert": Family("roberta", _classes("Camembert")),
    "roberta-prelayernorm": Family(
        "roberta_prelayernorm", _classes("RobertaPreLayerNorm"), renamed=_PRE_NORM, pre_norm=True
    ),
}
SUPPORTED = "BERT, RoBERTa, XLM-RoBERTa, CamemBERT and RoBERTa-PreLayerNorm encoders, and X-MOD itself"

# Known encoders that cannot be converted, and what an X-MOD layer cannot compute.
UNFIT: Mapping[str, str] = {
    "albert": "its layers share their weights, and its embeddings are narrower than its states",
    "deberta": "its attention treats content and position separately",
    "deberta-v2": "its attention treats content and position separately",
    "electra": "its embeddings may be narrower than its states",
    "eurobert": "its positions are rotary and its feed-forward layers are gated",
    "gte": "its positions are rotary and its feed-forward layers are gated",
    "modernbert": "its positions are rotary and its feed-forward layers are gated",
    "mpnet": "its attention adds a relative position bias",
    "new": "its positions are rotary and its feed-forward layers are gated",
    "nomic_bert": "its positions are rotary and its feed-forward layers are gated",
    "xlm": "its layers have another order of operations",
    "xlm-roberta-xl": "it has no LayerNorm after its embeddings",
}

# Weights that need no counterpart, and why.
LEFT: Mapping[str, str] = {
    r"(.*\.)?embeddings\.position_ids": "computed again",
    r"(.*\.)?embeddings\.token_type_ids": "zeros, created again",
    r"cls\.seq_relationship\..*": "the next-sentence prediction head",
}
_OLD = ((re.compile(r"LayerNorm\.gamma$"), "LayerNorm.weight"), (re.compile(r"LayerNorm\.beta$"), "LayerNorm.bias"))


def our_name(name: str, family: Family, architecture: str) -> str:
    """The name of a weight of the family here, in the class `architecture`, with the encoder prefix.

    Args:
        name: its name in the source's file; bare encoders are saved with or without the prefix.
    """
    for old, plain in _OLD:
        name = old.sub(plain, name)
    if name.startswith(f"{family.prefix}."):
        name = PREFIX + name[len(family.prefix) + 1 :]
    elif name.startswith(("embeddings.", "encoder.", "pooler.", "LayerNorm.")):
        name = PREFIX + name
    for pattern, replacement in (*family.heads.get(architecture, ()), *family.renamed):
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return name


def why_left(name: str, ours: str, architecture: str) -> str | None:
    """Why a weight without a counterpart in the model may be left out; None if it may not."""
    for pattern, reason in LEFT.items():
        if re.fullmatch(pattern, name):
            return reason
    if ours.startswith(PREFIX + POOLER):
        return "the pooler, which this head does not use"
    if architecture == "XmodModel" and ours.startswith((LM_HEAD, *TASK_HEADS)):
        return "a head, which was not requested"
    return None
