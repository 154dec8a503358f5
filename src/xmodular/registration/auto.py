"""Registration with transformers' Auto classes."""

from __future__ import annotations

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from xmodular.configuration import XmodConfig
from xmodular.modeling.causal import XmodForCausalLM
from xmodular.modeling.heads import (
    XmodForMultipleChoice,
    XmodForSequenceClassification,
    XmodForTokenClassification,
)
from xmodular.modeling.lm import XmodForMaskedLM
from xmodular.modeling.model import XmodModel
from xmodular.modeling.question_answering import XmodForQuestionAnswering
from xmodular.registration.pipelines import register_pipelines

_AUTO = {
    AutoModel: XmodModel,
    AutoModelForCausalLM: XmodForCausalLM,
    AutoModelForMaskedLM: XmodForMaskedLM,
    AutoModelForMultipleChoice: XmodForMultipleChoice,
    AutoModelForPreTraining: XmodForMaskedLM,
    AutoModelForQuestionAnswering: XmodForQuestionAnswering,
    AutoModelForSequenceClassification: XmodForSequenceClassification,
    AutoModelForTokenClassification: XmodForTokenClassification,
}


def register() -> None:
    """Makes `AutoConfig`, the `AutoModel` classes and `pipeline` use these classes for "xmod" checkpoints.

    Pipelines of these models then take a language: ``pipeline("fill-mask", model=...)(text, language="sw")``, or
    identify it: ``identify=True`` and the other forms of `Predictor`, with `identify_languages`, `threshold` and
    `default_language`.
    """
    AutoConfig.register("xmod", XmodConfig, exist_ok=True)
    for auto, model in _AUTO.items():
        auto.register(XmodConfig, model, exist_ok=True)
    register_pipelines()
