"""Modular multilingual encoders: X-MOD models, from pretraining to serving."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xmodular.catalogue import models
    from xmodular.certificate import diff
    from xmodular.configuration import XmodConfig
    from xmodular.conversion import convert, upcycle
    from xmodular.evaluation import evaluate
    from xmodular.identify import Identifier
    from xmodular.modeling import (
        XmodForCausalLM,
        XmodForMaskedLM,
        XmodForMultipleChoice,
        XmodForQuestionAnswering,
        XmodForSequenceClassification,
        XmodForTokenClassification,
        XmodModel,
        XmodPreTrainedModel,
        register,
    )
    from xmodular.prediction import Predictor, fill_mask, predict
    from xmodular.sharing import pack_install, pack_list, pack_remove, pack_save, pack_verify
    from xmodular.training import extend, finetune, pretrain

# Where each public name lives. Imported on first use, so that `import xmodular` starts without torch.
_HOMES = {
    "Identifier": "identify",
    "Predictor": "prediction",
    "XmodConfig": "configuration",
    "XmodForCausalLM": "modeling",
    "XmodForMaskedLM": "modeling",
    "XmodForMultipleChoice": "modeling",
    "XmodForQuestionAnswering": "modeling",
    "XmodForSequenceClassification": "modeling",
    "XmodForTokenClassification": "modeling",
    "XmodModel": "modeling",
    "XmodPreTrainedModel": "modeling",
    "convert": "conversion",
    "diff": "certificate",
    "evaluate": "evaluation",
    "extend": "training",
    "fill_mask": "prediction",
    "finetune": "training",
    "models": "catalogue",
    "pack_install": "sharing",
    "pack_list": "sharing",
    "pack_remove": "sharing",
    "pack_save": "sharing",
    "pack_verify": "sharing",
    "predict": "prediction",
    "pretrain": "training",
    "register": "modeling",
    "upcycle": "conversion",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'xmodular' has no attribute {name!r}")
    return getattr(importlib.import_module(f"xmodular.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
