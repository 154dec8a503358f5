"""The X-MOD models."""

from xmodular.modeling.causal import XmodForCausalLM
from xmodular.modeling.heads import (
    XmodForMultipleChoice,
    XmodForSequenceClassification,
    XmodForTokenClassification,
)
from xmodular.modeling.lm import XmodForMaskedLM
from xmodular.modeling.model import XmodModel
from xmodular.modeling.pretrained import XmodPreTrainedModel
from xmodular.modeling.question_answering import XmodForQuestionAnswering
from xmodular.modeling.sentence_embedding import XmodForSentenceEmbedding
from xmodular.modeling.trainable import ParameterGroup

__all__ = [
    "ParameterGroup",
    "XmodForCausalLM",
    "XmodForMaskedLM",
    "XmodForMultipleChoice",
    "XmodForQuestionAnswering",
    "XmodForSentenceEmbedding",
    "XmodForSequenceClassification",
    "XmodForTokenClassification",
    "XmodModel",
    "XmodPreTrainedModel",
]
