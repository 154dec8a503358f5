"""The table of trainable parameter groups by policy."""

from __future__ import annotations

from dataclasses import dataclass

from xmodular.weight_names import (
    ADAPTER,
    ADAPTER_NORM,
    LANGUAGE_IN_MODULE,
    LM_HEAD,
    OWN_WORDS,
    POOLER,
    TASK_HEADS,
    bare,
)

# Which groups of parameters train, by policy. "shared" is fine-tuning as in the paper (section 3.3): embeddings,
# adapters and the adapters' LayerNorm do not change.
TRAINABLE: dict[str, frozenset[str]] = {
    "all": frozenset({"embeddings", "vocabularies", "adapters", "adapter norm", "encoder", "lm head", "task head"}),
    "shared": frozenset({"encoder", "lm head", "task head"}),
    "adapters": frozenset({"adapters", "task head"}),
    "head": frozenset({"lm head", "task head"}),
    "language": frozenset({"adapters", "vocabularies"}),
    "all-but-adapters": frozenset({"embeddings", "vocabularies", "encoder", "lm head", "task head"}),
}


@dataclass(frozen=True)
class ParameterGroup:
    """One row of the table of trainable groups: name, whether it is trained, number of parameters."""

    name: str
    trains: bool
    trainable: int
    total: int


def parameter_group(name: str) -> str:
    """The group that a parameter belongs to, by its name."""
    if ADAPTER in name:
        return "adapters"
    if ADAPTER_NORM in name:
        return "adapter norm"
    if ".language_bias." in name or OWN_WORDS in name:
        return "vocabularies"
    if bare(name).startswith("embeddings."):
        return "embeddings"
    if name.startswith(LM_HEAD):
        return "lm head"
    if name.startswith(TASK_HEADS) or bare(name).startswith(POOLER):
        return "task head"
    return "encoder"


def language_of_weight(name: str) -> str | None:
    """The language that a parameter belongs to, if any."""
    found = LANGUAGE_IN_MODULE.search(name)
    return None if found is None else found[1]
