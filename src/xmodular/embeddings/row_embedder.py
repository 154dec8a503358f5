"""An encoder as a function from rows to vectors: what `embed` runs, in the place of a model with a task head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from xmodular.embeddings.embedder import encoder_of
from xmodular.identification import Identify
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import WeightPrecision
from xmodular.prediction import Predictor
from xmodular.tasks import TASKS, Task
from xmodular.tasks.readers import default_of


class RowEmbedder(Predictor):
    """A `Predictor` whose predictions are vectors, of any X-MOD model.

    Args:
        model, tokenizer: as for `Predictor`; a head is ignored.
        pooling, normalize, prefix: as for `Embedder`.
        identify, default_language: as for `Embedder`.
        more: further arguments of `Predictor`.
    """

    def __init__(
        self,
        model: XmodPreTrainedModel | str | Path,
        tokenizer: Any = None,
        *,
        pooling: Literal["mean", "first", "cls"] | None = None,
        normalize: bool | None = None,
        prefix: str | None = None,
        identify: Identify = False,
        default_language: str | None = None,
        **more: Any,
    ) -> None:
        self._settings = {"pooling": pooling, "normalize": normalize, "prefix": prefix}
        super().__init__(model, tokenizer, identify=identify, default_language=default_language, **more)

    def _loaded(
        self, model: XmodPreTrainedModel | str | Path, precision: WeightPrecision, resident_languages: int | None
    ) -> tuple[Any, Task]:
        made = encoder_of(model, precision, resident_languages)
        made.settings = made.settings.changed(**self._settings)
        return made, TASKS["embed"]

    def _default_language(self, given: str | None, *, identify: bool) -> str | None:
        return default_of(self.model.config) if identify and given is None else given

    def _shown(self, predicted: Mapping[str, Any]) -> dict[str, Any]:
        return dict(predicted)
