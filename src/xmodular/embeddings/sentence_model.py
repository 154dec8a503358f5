"""X-MOD models as SentenceTransformers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from xmodular.configuration import stored_modules
from xmodular.errors import ConfigurationError, speaking
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import Fallback, WeightPrecision

if TYPE_CHECKING:
    from xmodular.embeddings.modular_transformer import ModularSentenceTransformer


@speaking
def sentence_transformer(
    model: XmodPreTrainedModel | str | Path,
    tokenizer: Any = None,
    *,
    pooling: Literal["mean", "first", "cls"] | None = None,
    normalize: bool | None = None,
    prefix: str | None = None,
    default_language: str | None = None,
    identify: bool | None = None,
    threshold: float | None = None,
    fallback: Fallback | None = None,
    max_length: int | None = None,
    precision: WeightPrecision | None = None,
    **more: Any,
) -> ModularSentenceTransformer:
    """A ``SentenceTransformer`` of an X-MOD model, which takes a language per text.

    ``encode(texts, language=...)`` takes one language for all texts or one for each; texts may also be mappings with a
    ``text`` and a ``language``. The language of others is identified. `LanguageCollator` does the same in training.

    Args:
        model: any X-MOD model, as for `Embedder`; or what this model's ``save_pretrained`` wrote, with its settings.
        tokenizer, pooling, normalize, prefix: as for `Embedder`.
        default_language, threshold, fallback, max_length, precision: as for `Embedder`.
        identify: whether to identify the language of texts that name none; None: yes, or as it was saved.
        more: arguments of ``SentenceTransformer``, such as ``device``, ``prompts`` or ``truncate_dim``.

    Raises:
        ConfigurationError: sentence-transformers is not installed; or as for `Embedder`.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ConfigurationError(
            "This needs sentence-transformers, which the extra brings: pip install 'xmodular[embed]'."
        )
    from xmodular.embeddings.language_module import MODULE, XmodModule
    from xmodular.embeddings.modular_transformer import ModularSentenceTransformer

    embedding = {"pooling": pooling, "normalize": normalize, "prefix": prefix, "precision": precision}
    languages = {
        **{"default_language": default_language, "identify": identify, "threshold": threshold},
        **{"fallback": fallback, "max_length": max_length},
    }
    if isinstance(model, (str, Path)) and stored_modules(model)[:1] == [MODULE]:
        made: Any = ModularSentenceTransformer(str(model), **more)
        made[0] = made[0].changed(tokenizer, embedding, languages)
        return cast("ModularSentenceTransformer", made)
    return ModularSentenceTransformer(modules=[XmodModule(model, tokenizer, embedding, **languages)], **more)
