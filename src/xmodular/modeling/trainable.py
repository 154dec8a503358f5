"""What trains: one table of groups of parameters by policy."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Which groups of parameters train, by policy. "shared" is fine-tuning as in the paper (section 3.3): embeddings,
# adapters and the adapters' LayerNorm stay as pretrained.
TRAINABLE: dict[str, frozenset[str]] = {
    "all": frozenset({"embeddings", "vocabularies", "adapters", "adapter norm", "encoder", "lm head", "task head"}),
    "shared": frozenset({"encoder", "lm head", "task head"}),
    "adapters": frozenset({"adapters", "task head"}),
    "head": frozenset({"lm head", "task head"}),
    "language": frozenset({"adapters", "vocabularies"}),
    "all-but-adapters": frozenset({"embeddings", "vocabularies", "encoder", "lm head", "task head"}),
}

# The language that a weight belongs to.
_LANGUAGE_OF = re.compile(r"\.(?:adapter_modules|language_embeddings|language_bias)\.([^.]+)")


@dataclass(frozen=True)
class ParameterGroup:
    """One row of the table of what trains: a group's name, whether it trains, its number of parameters."""

    name: str
    trains: bool
    trainable: int
    total: int


def parameter_group(name: str) -> str:
    """The group that a parameter belongs to, by its name."""
    if ".adapter_modules." in name:
        return "adapters"
    if ".adapter_layer_norm." in name:
        return "adapter norm"
    if ".language_bias." in name or "embeddings.language_embeddings." in name:
        return "vocabularies"
    if name.startswith(("embeddings.", "roberta.embeddings.")):
        return "embeddings"
    if name.startswith("lm_head."):
        return "lm head"
    if name.startswith(("classifier.", "qa_outputs.", "pooler.", "roberta.pooler.")):
        return "task head"
    return "encoder"


def language_of(name: str) -> str | None:
    """The language that a parameter belongs to, if it belongs to one."""
    found = _LANGUAGE_OF.search(name)
    return None if found is None else found[1]
