"""Train a language's adapter so that a fine-tuned classifier predicts for sentences what it predicts for translations.

The classifier reads a sentence's translations, each with its own adapter; the adapter learns to give the sentence the
same probabilities (cross-lingual distillation: Xu and Yang 2017, equation 2, at temperature 1; their mean in the log
domain over several translations). Only text and translations are needed, no labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmodular.errors import ConfigurationError
from xmodular.modeling import XmodForSequenceClassification, XmodPreTrainedModel
from xmodular.training.aligning import Aligned


def check_classifier(model: XmodPreTrainedModel, name: str) -> None:
    """Raises ConfigurationError if a model is not a fine-tuned classifier, which gives a text one of several labels."""
    if not (
        isinstance(model, XmodForSequenceClassification)
        and model.config.problem_type in (None, "single_label_classification")
        and len(model.config.id2label or ()) > 1
    ):
        raise ConfigurationError(
            f"--objective predictions is for fine-tuned classifiers, which give a text one of several labels; {name} "
            f"({type(model).__name__}) is not one. The other objectives are for any model."
        )
    if model.config.task_language is None:
        raise ConfigurationError(
            f"--objective predictions needs a head that is trained; {name} does not record in which language it was "
            "fine-tuned. If it was elsewhere, set `task_language` in its config.json."
        )


@dataclass(frozen=True)
class Imitated(Aligned):
    """Sentences of a language, and the logits of the labels for their translations.

    Attributes:
        targets: (sentences, labels) float32.
    """

    measures = ("agreement", "divergence")
    aim = "get the label of their translation"

    @staticmethod
    def reader(model: XmodPreTrainedModel) -> nn.Module:
        """The model itself."""
        return model

    def student(self, model: XmodPreTrainedModel) -> nn.Module:
        """The model itself."""
        return model

    def scores(self, model: XmodPreTrainedModel, language: str | None = None) -> dict[str, float]:
        """How near the predictions are to those for the translations.

        Args:
            model: the model that reads the sentences.
            language: the language whose adapter is used; default: the language itself.

        Returns:
            ``agreement``, the share of sentences with the label of their translations; ``divergence``, the mean
            Kullback-Leibler divergence in nats, which is also the ``loss``.
        """
        own = torch.from_numpy(self.read(model, self.encodings, language or model.languages[self.lang_id]))
        wanted = torch.from_numpy(self.targets)
        divergence = float(_divergence(own, wanted)) / len(self)
        agreement = float((own.argmax(1) == wanted.argmax(1)).float().mean())
        return {"agreement": agreement, "divergence": divergence, "loss": divergence}


def imitation(model: nn.Module, batch: dict[str, Any], items: Tensor) -> Tensor:
    """The divergences of a batch's predictions from those for the translations, divided by the sentences of a step."""
    batch.pop("right")
    targets = batch.pop("targets")
    return _divergence(model(**batch).logits.float(), targets) / items


def _divergence(own: Tensor, wanted: Tensor) -> Tensor:
    return F.kl_div(own.log_softmax(-1), wanted.log_softmax(-1), reduction="sum", log_target=True)
