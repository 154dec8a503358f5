"""Fine-tuning of vectors: texts with their positives, each read by its own language's adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from xmodular.modeling import XmodForSentenceEmbedding, XmodPreTrainedModel
from xmodular.options import FinetuneOptions
from xmodular.saved_models import embedding_settings_of, home_of
from xmodular.tasks import Example
from xmodular.tasks.readers import Reading
from xmodular.tasks.sentence_vectors import contrastive, paired

_TEMPERATURE = 0.05  # that of Gao et al. 2021 (SimCSE), section 3


def set_up(model: XmodForSentenceEmbedding, options: FinetuneOptions) -> None:
    """Note in a model how its vectors are made and trained, as requested or as recorded before."""
    recorded = embedding_settings_of(model.config, home_of(model))
    temperature = options.temperature or recorded.temperature or _TEMPERATURE
    model.settings = recorded.changed(pooling=options.pooling, prefix=options.prefix, temperature=temperature)
    model.config.sentence_embedding = model.settings.record()


def without_languages(examples: Sequence[Example], options: FinetuneOptions) -> Sequence[Example]:
    """The examples for the choice of their texts' adapters: with --language, the file's name means their positives'."""
    if options.task != "embed" or options.language is None:
        return examples
    return [replace(each, language=None) for each in examples]


def pairs(
    examples: Sequence[Example], readings: Sequence[Reading], model: XmodPreTrainedModel, options: FinetuneOptions
) -> Sequence[Example]:
    """The examples with a language for each text; those of other tasks unchanged.

    Raises:
        LanguageError: the model lacks the language of a positive or negative.
    """
    if not isinstance(model, XmodForSentenceEmbedding):
        return examples
    return paired(examples, readings, options.positive_language, model)


def loss_of(model: XmodPreTrainedModel) -> dict[str, Any]:
    """The argument ``loss`` of `fit`, where it is not the model's own."""
    if not isinstance(model, XmodForSentenceEmbedding):
        return {}
    return {"loss": partial(contrastive, temperature=model.settings.temperature or _TEMPERATURE)}
