"""Text that switches language inside a row: one language id per token.

    python examples/mixed_languages.py

Each row is an English sentence followed by a German one. The same words are hidden three times and read with the
English adapter for all tokens, with the German one, and with each token's own.
"""

from __future__ import annotations

from itertools import islice

import torch
from prepare import arguments, prepare
from torch import Tensor

from xmodular import XmodForMaskedLM
from xmodular.demo.parallel_corpus import sentences
from xmodular.vocabulary import load_tokenizer

ROWS = 64


def main() -> None:
    _, base = prepare(arguments(__doc__))
    model = XmodForMaskedLM.from_pretrained(base, languages=["en", "de"]).eval()
    tokenizer = load_tokenizer(base)
    english, german = model.lang_ids(["en", "de"]).tolist()

    # <s> A </s></s> B </s>: the second sentence begins after the first </s>.
    pairs = zip(sentences("en", 2 * ROWS, seed=1), sentences("de", 2 * ROWS, seed=2), strict=True)
    first, second = zip(*((a.text, b.text) for a, b in islice(pairs, ROWS)), strict=True)
    batch = tokenizer(list(first), list(second), padding=True, truncation=True, max_length=48, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]  # (rows, tokens)
    after_first = (ids == tokenizer.eos_token_id).cumsum(1) > 0
    per_token = torch.where(after_first, german, english)  # (rows, tokens)

    torch.manual_seed(0)
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    hidden = (torch.rand(ids.shape) < 0.2) & ~special
    labels = ids.masked_fill(~hidden, -100)
    masked = ids.masked_fill(hidden, tokenizer.mask_token_id)

    def loss(lang_ids: Tensor) -> float:
        with torch.inference_mode():
            return model(masked, lang_ids, mask, labels=labels, sparse_prediction=True).loss.item()

    print(f"{int(hidden.sum())} hidden tokens in {ROWS} rows; mean loss in nats:")
    print(f"  all English       {loss(torch.full((ROWS,), english)):.3f}")
    print(f"  all German        {loss(torch.full((ROWS,), german)):.3f}")
    print(f"  each token's own  {loss(per_token):.3f}")


if __name__ == "__main__":
    main()
