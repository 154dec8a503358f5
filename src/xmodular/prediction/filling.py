"""The most probable pieces for a mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xmodular.errors import ConfigurationError, InputError
from xmodular.identification import THRESHOLD
from xmodular.modeling import XmodForMaskedLM, XmodPreTrainedModel
from xmodular.options import FillMaskOptions
from xmodular.signatures import verb
from xmodular.tasks import Example, given_model, to_run, tokenizer_of
from xmodular.tasks.per_token import adapters_at
from xmodular.tasks.readers import Readers, Reading, default_of
from xmodular.vocabulary import positions_of, text_backend


@dataclass(frozen=True)
class Filling:
    """One candidate for one mask.

    Attributes:
        mask: number of the mask, from 0.
        piece: the piece.
        probability: its probability.
        text: the text with the piece.
        adapter: the code of the language whose adapter read the mask.
    """

    mask: int
    piece: str
    probability: float
    text: str
    adapter: str


@verb(FillMaskOptions, "model", "text", objects={"model": given_model})
@torch.inference_mode()
def fill_mask(options: FillMaskOptions, given: XmodPreTrainedModel | None) -> list[Filling]:
    """The most probable pieces for every mask in a text.

    Args:
        model: a masked language model, as an object, a folder or a name on the Hub.
        text: a text with one or more ``<mask>``, or the tokenizer's own mask, such as ``[MASK]``; other names of
            special tokens are ordinary text.

    Returns:
        `top_k` candidates for the first mask, then for the next; the other masks stay in a candidate's text.

    Raises:
        ConfigurationError: the model is not a masked language model.
        InputError: there is no mask in the text, or the text is too long.
        LanguageError: the model has neither the language nor, with `fallback`, a relative of it.
    """
    model = to_run(given if given is not None else options.model)
    if not isinstance(model, XmodForMaskedLM):
        raise ConfigurationError(
            f"Filling masks needs a masked language model; {options.model} is an {type(model).__name__}."
        )
    named, default = (options.language, None) if options.identify is False else (None, options.language)
    if options.identify is not False and default is None:
        default = default_of(model.config)
        if default is None:
            raise ConfigurationError(
                "--language is missing: --identify also needs a language for text that cannot be identified (numbers, "
                "single words), and this model has neither a default language nor English."
            )
    readers = Readers(model, default, identify=options.identify, threshold=THRESHOLD, fallback=options.fallback)

    def read(text: str) -> Reading:
        return readers.of([Example((text,), None, "the text", language=named)])[0]

    tokenizer = tokenizer_of(model, options.tokenizer, read(options.text).adapter)
    text = options.text.replace("<mask>", tokenizer.mask_token)
    reading = read(text)
    tokens = text_backend(tokenizer, but=tokenizer.mask_token).encode(text)
    starts = [
        -1 if of is None else start for (start, _), of in zip(tokens.offsets, tokens.sequence_ids, strict=True)
    ]  # special tokens are before all spans
    adapters = adapters_at(starts, 0, reading)
    ids = torch.tensor([tokens.ids]).to(model.device)
    longest = positions_of(model.config)
    if ids.shape[1] > longest:
        raise InputError(f"The text has {ids.shape[1]} tokens; this model reads at most {longest}.")
    places = torch.nonzero(ids[0] == tokenizer.mask_token_id)[:, 0].tolist()
    if not places:
        raise InputError(f"There is no {tokenizer.mask_token} to fill in the text {options.text!r}.")
    model.eval()
    labels = torch.where(ids == tokenizer.mask_token_id, ids, -100)
    # Labels choose the positions of the head; their values only affect the loss.
    lang_ids = model.lang_ids(adapters)[None] if reading.is_mixed else model.lang_ids(reading.adapter)
    logits = model(ids, lang_ids=lang_ids, labels=labels, sparse_prediction=True).logits
    logits[:, tokenizer.all_special_ids] = -torch.inf
    logits[:, 1 + max(tokenizer.get_vocab().values()) :] = -torch.inf  # rows that fill up a table
    best = logits.float().softmax(-1).topk(min(options.top_k, logits.shape[1]))
    answer = []
    for mask, place in enumerate(places):
        for probability, piece in zip(best.values[mask].tolist(), best.indices[mask].tolist(), strict=True):
            filled = ids[0].tolist()
            filled[place] = piece
            text = tokenizer.backend_tokenizer.decode(filled[1:-1], skip_special_tokens=False)
            found = tokenizer.backend_tokenizer.decode([piece]).strip()
            answer.append(Filling(mask, found, probability, text, adapters[place]))
    return answer
