"""A tokenizer with some of its pieces: which others these need, and the ``tokenizer.json`` with new ids.

A text whose pieces all stay is cut into the same pieces as before:

- Unigram takes the best of all segmentations. With fewer pieces there are fewer of them, and the best one is still
  there. Characters that no piece covers cost a fixed amount below the lowest score, so the piece with the lowest score
  stays.
- WordPiece takes the longest piece at each place, which is still there.
- BPE applies its first merge that fits, again and again. All merges that lead to a piece which stays do stay, and with
  them the pieces that they join.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from xmodular.errors import DataError
from xmodular.pieces import ROLES

MODELS = ("Unigram", "WordPiece", "BPE", "WordLevel")


def content_of(backend: Tokenizer) -> dict[str, Any]:
    """The content of a fast tokenizer's ``tokenizer.json``, without truncation and padding.

    Raises:
        DataError: its model is none of `MODELS`.
    """
    content: dict[str, Any] = json.loads(backend.to_str())
    if (kind := content["model"].get("type")) not in MODELS:
        raise DataError(f"The tokenizer's model is {kind!s:.40}; tokenizers that can be trimmed: {', '.join(MODELS)}.")
    content["truncation"] = content["padding"] = None
    return content


def needed(content: dict[str, Any], ids: Iterable[int]) -> set[int]:
    """Some ids with those that they need: unknown and added tokens, what merges join, the lowest score.

    Args:
        content: of a ``tokenizer.json``.
        ids: of pieces that stay.
    """
    kept = {*ids, *(token["id"] for token in content["added_tokens"])}
    model = content["model"]
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        kept.add(scores.index(min(scores)))
        return kept if model["unk_id"] is None else {*kept, model["unk_id"]}
    vocabulary: dict[str, int] = model["vocab"]
    if model.get("unk_token") in vocabulary:
        kept.add(vocabulary[model["unk_token"]])
    if model["type"] == "BPE":
        leads_to: dict[int, list[int]] = {}
        for one, other in model["merges"]:
            joined = vocabulary[_joined(model, one, other)]
            leads_to.setdefault(joined, []).extend((vocabulary[one], vocabulary[other]))
        waiting = list(kept)
        while waiting:
            for part in leads_to.get(waiting.pop(), ()):
                if part not in kept:
                    kept.add(part)
                    waiting.append(part)
    return kept


def rewritten(content: dict[str, Any], ids: Iterable[int], pad: int) -> tuple[dict[str, Any], list[int]]:
    """A ``tokenizer.json`` with some of its pieces.

    Scores and the order of pieces and merges stay. The padding keeps its id, since positions are counted from it.

    Args:
        content: of the file with all pieces.
        ids: of the pieces that stay; all that `needed` adds are among them.
        pad: the id of the padding.

    Returns:
        The content of the new file, and the old id of each of its pieces.

    Raises:
        DataError: the padding cannot keep its id.
    """
    model = content["model"]
    rows = len(model["vocab"])
    if model["type"] == "Unigram":
        by_id = dict(enumerate(model["vocab"]))
    else:
        by_id = {index: piece for piece, index in model["vocab"].items()}
    kept = set(ids)
    order = [old for old in sorted(kept) if old in by_id and old != pad]
    if pad in by_id:
        spare = (old for old in sorted(by_id) if old not in kept)
        while len(order) < pad:  # a vocabulary that is smaller than the padding's id
            order.append(next(spare))
        order.insert(pad, pad)
    order += [token["id"] for token in content["added_tokens"] if token["id"] not in by_id]
    if pad >= len(order) or order[pad] != pad:
        raise DataError(f"The padding has id {pad} of {rows}, outside the tokenizer's model: it cannot keep its id.")
    new_ids = {old: new for new, old in enumerate(order)}
    made = {**content, "model": _trimmed_model(model, by_id, new_ids)}
    made["added_tokens"] = sorted(
        ({**token, "id": new_ids[token["id"]]} for token in content["added_tokens"]), key=lambda token: token["id"]
    )
    made["post_processor"] = _renumbered(content["post_processor"], new_ids)
    return made, order


def backend_of(content: dict[str, Any], order: Sequence[int], content_before: dict[str, Any]) -> Tokenizer:
    """The tokenizer of a trimmed ``tokenizer.json``.

    Raises:
        DataError: the library gives a piece another id than it should have.
    """
    backend = Tokenizer.from_str(json.dumps(content, ensure_ascii=False))
    before = _pieces(content_before)
    for piece, new in backend.get_vocab(with_added_tokens=True).items():
        if before.get(piece) != order[new]:
            raise DataError(f"The tokenizer cannot be trimmed: its piece {piece!r:.60} would not keep its row.")
    return backend


def like(tokenizer: PreTrainedTokenizerFast, backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer around another fast core, with the same roles of special tokens and the same settings."""
    roles = {f"{role}_token": getattr(tokenizer, f"{role}_token") for role in (*ROLES, "bos", "eos")}
    others = [token for token in tokenizer.all_special_tokens if token not in roles.values()]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **roles,
        extra_special_tokens=others,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
    )


def _pieces(content: dict[str, Any]) -> dict[str, int]:
    """All pieces and their ids, added tokens too."""
    vocabulary = content["model"]["vocab"]
    if content["model"]["type"] == "Unigram":
        vocabulary = {piece: index for index, (piece, _) in enumerate(vocabulary)}
    return {**vocabulary, **{token["content"]: token["id"] for token in content["added_tokens"]}}


def _joined(model: dict[str, Any], one: str, other: str) -> str:
    """What a merge makes of two pieces; the mark of the inside of a word is not repeated."""
    return one + other[len(model.get("continuing_subword_prefix") or "") :]


def _trimmed_model(model: dict[str, Any], by_id: dict[int, Any], new_ids: dict[int, int]) -> dict[str, Any]:
    inside = [old for old in new_ids if old in by_id]  # in the order of the new ids
    if model["type"] == "Unigram":
        unknown = model["unk_id"]
        return {
            **model,
            "vocab": [by_id[old] for old in inside],
            "unk_id": None if unknown is None else new_ids[unknown],
        }
    vocabulary = {by_id[old]: new_ids[old] for old in inside}
    made = {**model, "vocab": vocabulary}
    if model["type"] == "BPE":
        made["merges"] = [
            [one, other]
            for one, other in model["merges"]
            if one in vocabulary and other in vocabulary and _joined(model, one, other) in vocabulary
        ]
    return made


def _renumbered(processor: Any, new_ids: dict[int, int]) -> Any:
    """What is put around a text, with new ids."""
    if processor is None:
        return None
    made = dict(processor)
    if made["type"] == "Sequence":
        made["processors"] = [_renumbered(each, new_ids) for each in made["processors"]]
    elif made["type"] == "TemplateProcessing":
        made["special_tokens"] = {
            name: {**token, "ids": [new_ids[old] for old in token["ids"]]}
            for name, token in made["special_tokens"].items()
        }
    elif made["type"] in ("BertProcessing", "RobertaProcessing"):
        for name in ("sep", "cls"):
            token, old = made[name]
            made[name] = [token, new_ids[old]]
    return made
