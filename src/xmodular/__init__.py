"""Modular multilingual encoders: X-MOD models, from pretraining to serving."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Where each public name lives. Imported on first use, so that `import xmodular` starts without torch; type
# checkers read the stub next to this file.
_HOMES = {
    "FastTextIdentifier": "identification",
    "Identifier": "identification",
    "MtebEncoder": "embeddings",
    "Predictor": "prediction",
    "SpanIdentifier": "identification",
    "XmodConfig": "configuration",
    "XmodForCausalLM": "modeling",
    "XmodForMaskedLM": "modeling",
    "XmodForMultipleChoice": "modeling",
    "XmodForQuestionAnswering": "modeling",
    "XmodForSentenceEmbedding": "modeling",
    "XmodForSequenceClassification": "modeling",
    "XmodForTokenClassification": "modeling",
    "XmodModel": "modeling",
    "XmodPreTrainedModel": "modeling",
    "convert": "conversion",
    "diff": "comparison",
    "donors": "donor_ranking",
    "embed": "embeddings",
    "evaluate": "evaluation",
    "export": "exporting",
    "extend": "training",
    "fill_mask": "prediction",
    "finetune": "training",
    "models": "catalogue",
    "pack_install": "pack_verbs",
    "pack_list": "pack_verbs",
    "pack_remove": "pack_verbs",
    "pack_save": "pack_verbs",
    "pack_verify": "pack_verbs",
    "predict": "prediction",
    "pretrain": "training",
    "register": "registration",
    "serve": "serving",
    "trim": "trimming",
    "upcycle": "conversion",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xmodular' has no attribute {name!r}")
    return getattr(importlib.import_module(f"xmodular.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
