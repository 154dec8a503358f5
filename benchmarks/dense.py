"""Fine-tune a dense encoder as transformers' users do, whole: the baseline, with one learning rate or two.

    python benchmarks/dense.py --model multilingual-e5-small --task classify --train sib200/en_XX.train.jsonl \
        --dev sib200/en_XX.dev.jsonl --learning-rate 1e-4 --epochs 4 --batch-size 8 --seeds 0,1,2 --output-dir dense

transformers' own class for the task, every weight trained, AdamW with linear warm-up and decay
(``--head-learning-rate``: a rate of its own for the new head), dropout as the model has it; rows, labels and tokens are
those of ``xmodular finetune``, and so is the choice of the best pass. Each model is written as transformers writes it
and then upcycled, which changes no output, so that ``xmodular evaluate --model dense --source en --max-length 128``
reads it, all seeds together, and the scores are counted alike.

Word embeddings that no row has get no gradient, and AdamW only shrinks them by its weight decay; so they are put aside
while training and shrunk at the end, which gives the same weights in less time.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    get_linear_schedule_with_warmup,
    set_seed,
)

from xmodular import upcycle
from xmodular.tasks import Encoding, Room, collate, task_named
from xmodular.tasks.examples import load
from xmodular.vocabulary import load_tokenizer

_CLASSES = {
    "classify": AutoModelForSequenceClassification,
    "tag": AutoModelForTokenClassification,
    "qa": AutoModelForQuestionAnswering,
    "choice": AutoModelForMultipleChoice,
}


class Trimmed:
    """A model's word embeddings while it trains: those of some pieces, which take the place of all.

    Args:
        model: gets the smaller table.
        pieces: ids that are read; any order.
    """

    def __init__(self, model: PreTrainedModel, pieces: Iterable[int]) -> None:
        whole = model.get_input_embeddings()
        self.whole, self.rows, self.kept = whole, torch.tensor(sorted({*pieces, whole.padding_idx or 0})), 1.0
        blank = None if whole.padding_idx is None else int(torch.searchsorted(self.rows, whole.padding_idx))
        self.small = torch.nn.Embedding.from_pretrained(whole.weight.data[self.rows], freeze=False, padding_idx=blank)
        model.set_input_embeddings(self.small)

    def ids(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids of the smaller table."""
        return torch.searchsorted(self.rows, ids)

    def shrink(self, rate: float, weight_decay: float) -> None:
        """Note a step's weight decay, for the rows put aside."""
        self.kept *= 1 - rate * weight_decay

    def put_back(self, model: PreTrainedModel, kept: float) -> None:
        """The whole table again, after steps that shrank it so far."""
        self.whole.weight.data.mul_(kept)
        self.whole.weight.data[self.rows] = self.small.weight.data
        model.set_input_embeddings(self.whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the dense encoder")
    parser.add_argument("--task", choices=list(_CLASSES), required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--dev")
    parser.add_argument(
        "--languages",
        default="en,ar,bg,da,de,el,es,et,eu,fi,fr,hi,hr,id,it,no,pt,ro,ru,sv,sw,ta,th,"
        "tr,ur,vi,zh_CN,zh_TW,mt,mi,tt,ht,qu,gsw,fa,ja,ko",
        help="languages of the upcycled models",
    )
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--head-learning-rate", type=float, help="rate of the new head; default: as the encoder's")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--rows", type=int, help="train on the first so many rows")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--output-dir", type=Path, required=True)
    options = parser.parse_args()

    task = task_named(options.task)
    tokenizer = load_tokenizer(options.model)
    train = load(task, options.train)[: options.rows]
    dev = load(task, options.dev) if options.dev else []
    labels = task.label_names(train)
    room = Room(options.max_length, options.max_length // 4)
    encodings = task.encode(tokenizer, train, labels, room)
    checked = task.encode(tokenizer, dev, labels, room)
    pieces = {piece for each in (*encodings, *checked) for ids in each.sequences for piece in ids}
    pieces.add(tokenizer.pad_token_id)

    def batch(part: Sequence[Encoding]) -> dict[str, torch.Tensor]:
        made = collate(part, [0] * len(part), tokenizer.pad_token_id, task=task)
        made.pop("lang_ids")
        made.pop("p_mask", None)
        return {**made, "input_ids": table.ids(made["input_ids"])}

    @torch.inference_mode()
    def score(model: torch.nn.Module) -> float:
        model.eval()
        read: dict[int, list[tuple[Encoding, np.ndarray]]] = {}
        for each in checked:
            made = {name: value for name, value in batch([each]).items() if "label" not in name and "pos" not in name}
            found = model(**made)
            logits = torch.stack([found.start_logits, found.end_logits], -1) if task.name == "qa" else found.logits
            read.setdefault(each.example, []).append((each, logits[0].float().numpy()))
        predicted = [task.decode(dev[number], read[number], labels) for number in range(len(dev))]
        model.train()
        return float(next(iter(task.metrics(task.statistics(dev, predicted, labels).sum(0), labels).values())))

    for seed in map(int, options.seeds.split(",")):
        set_seed(seed)
        named: dict[str, object] = {}
        if labels:
            named = {"id2label": dict(enumerate(labels)), "label2id": {name: n for n, name in enumerate(labels)}}
        model = _CLASSES[task.name].from_pretrained(options.model, **named).train()
        table = Trimmed(model, pieces)
        steps = -(-len(encodings) // options.batch_size) * options.epochs
        old = {id(weight) for weight in model.base_model.parameters()}
        groups = [
            {"params": [weight for weight in model.parameters() if id(weight) in old]},
            {
                "params": [weight for weight in model.parameters() if id(weight) not in old],
                "lr": options.head_learning_rate or options.learning_rate,
            },
        ]
        optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, weight_decay=0.01, fused=True)
        schedule = get_linear_schedule_with_warmup(optimizer, int(0.06 * steps), steps)
        best, kept, shrunk = -1.0, None, 1.0
        for epoch in range(options.epochs):
            order = random.sample(range(len(encodings)), len(encodings))
            for start in range(0, len(order), options.batch_size):
                loss = model(**batch([encodings[place] for place in order[start : start + options.batch_size]])).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                table.shrink(schedule.get_last_lr()[0], 0.01)
                schedule.step()
                optimizer.zero_grad()
            reached = score(model) if dev else float(epoch)
            print(f"seed {seed}, pass {epoch + 1}: loss {loss.item():.3f}, dev {reached:.4f}", flush=True)
            if kept is None or reached > best:  # a value that is no number is never more
                best, kept, shrunk = reached, copy.deepcopy(model.state_dict()), table.kept
        model.load_state_dict(kept)
        table.put_back(model, shrunk)
        folder = options.output_dir / f"dense-{seed}"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        upcycle(folder, options.languages.split(","), output_dir=options.output_dir / f"seed-{seed}")
        found = sorted(int(each.name[5:]) for each in options.output_dir.glob("seed-*"))
        (options.output_dir / "seeds.json").write_text(json.dumps({"seeds": found}), encoding="utf8")


if __name__ == "__main__":
    main()
