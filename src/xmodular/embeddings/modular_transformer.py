"""A SentenceTransformer whose texts each have a language, and the collator that trains one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

from xmodular.embeddings.language_module import MODULE, XmodModule
from xmodular.errors import InputError
from xmodular.files import write_text

_LANGUAGE = "language"
_CARD = """
## Languages

This is an X-MOD model: each text is read by the adapter of its language, one of {languages}.

```python
from xmodular.embeddings import sentence_transformer  # pip install 'xmodular[embed]'

model = sentence_transformer("{name}")
model.encode(["Guten Morgen", "Habari ya asubuhi"], language=["de", "sw"])
```

Without `language` it is identified. Where xmodular is installed, `SentenceTransformer(..., trust_remote_code=True)`
loads the model too.
"""
# How the card of sentence-transformers says that a model is loaded.
_USAGE = (
    ("pip install -U sentence-transformers", "pip install -U 'xmodular[embed]'"),
    (
        "from sentence_transformers import SentenceTransformer\n",
        "from xmodular.embeddings import sentence_transformer\n",
    ),
    ("model = SentenceTransformer(", "model = sentence_transformer("),
)


class ModularSentenceTransformer(SentenceTransformer):
    """A ``SentenceTransformer`` that takes a language per text; see `xmodular.embeddings.sentence_transformer`."""

    _module_classes = {MODULE: XmodModule}  # so that loading needs no trust_remote_code

    def encode(self, inputs: Any, *args: Any, language: str | Sequence[str | None] | None = None, **kwargs: Any) -> Any:
        """The vectors of texts, as ``SentenceTransformer.encode``.

        Args:
            inputs: a text or a list of texts; or mappings with a ``text`` and its ``language``.
            args, kwargs: as there.
            language: one for all texts, or one for each; None where it is to be identified.

        Raises:
            InputError, LanguageError: a text has two languages, or its language is unknown.
        """
        if language is not None:
            is_one = self.is_singular_input(inputs)
            texts = [inputs] if is_one else list(inputs)
            names = [language] * len(texts) if isinstance(language, str) else list(language)
            if len(names) != len(texts):
                raise InputError(f"There are {len(texts)} texts and {len(names)} languages; give one per text.")
            named = [_named(text, name, place) for place, (text, name) in enumerate(zip(texts, names, strict=True))]
            inputs = named[0] if is_one else named
        return super().encode(inputs, *args, **kwargs)

    def save(self, path: str, *args: Any, **kwargs: Any) -> None:
        """Writes the model, with a section on its languages in the model card."""
        super().save(path, *args, **kwargs)
        card = Path(path, "README.md") if path is not None else None
        if card is None or not card.is_file() or "\n## Languages\n" in (text := card.read_text(encoding="utf-8")):
            return
        for theirs, ours in _USAGE:
            text = text.replace(theirs, ours)
        module: Any = self[0]
        codes = ", ".join(f"`{code}`" for code in module.model.languages)
        own = _CARD.format(languages=codes, name=self.model_card_data.model_id or Path(path).name)
        head, mark, tail = text.partition("\n## Usage\n")
        write_text(card, f"{head}{own}{mark}{tail}")


def _named(given: Any, language: str | None, place: int) -> Any:
    if not isinstance(given, Mapping):
        return {"text": given, _LANGUAGE: language}
    if language is not None and given.get(_LANGUAGE) not in (None, language):
        raise InputError(
            f"Text {place} is in {given[_LANGUAGE]!r}, and `language` says {language!r}: give one of them."
        )
    return {**given, _LANGUAGE: given.get(_LANGUAGE) or language}


@dataclass
class LanguageCollator(SentenceTransformerDataCollator):
    """Batches for training, in which a column of languages belongs to columns of texts.

    ``SentenceTransformerTrainer(..., data_collator=LanguageCollator(model.preprocess))``: a column ``language`` names
    the language of all texts of a row, a column ``<name>_language`` that of the texts in the column ``<name>``.
    """

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of rows; see ``SentenceTransformerDataCollator``."""
        return super().__call__([_with_languages(row) for row in features])


def _with_languages(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without its columns of languages, which go to the texts."""
    own = {f"{name}_{_LANGUAGE}": name for name in row if f"{name}_{_LANGUAGE}" in row}
    answer = {}
    for name, value in row.items():
        if name == _LANGUAGE or name in own:
            continue
        is_text = isinstance(value, str) and name != "dataset_name"
        language = row.get(f"{name}_{_LANGUAGE}") or row.get(_LANGUAGE)
        answer[name] = {"text": value, _LANGUAGE: language} if is_text and language else value
    return answer
