"""The X-MOD models."""

from xmodular.modeling.auto import register
from xmodular.modeling.base import XmodPreTrainedModel
from xmodular.modeling.heads import (
    XmodForMultipleChoice,
    XmodForQuestionAnswering,
    XmodForSequenceClassification,
    XmodForTokenClassification,
)
from xmodular.modeling.lm import XmodForCausalLM, XmodForMaskedLM
from xmodular.modeling.model import XmodModel
from xmodular.modeling.trainable import ParameterGroup

__all__ = [
    "ParameterGroup",
    "XmodForCausalLM",
    "XmodForMaskedLM",
    "XmodForMultipleChoice",
    "XmodForQuestionAnswering",
    "XmodForSequenceClassification",
    "XmodForTokenClassification",
    "XmodModel",
    "XmodPreTrainedModel",
    "register",
]
