"""Whatever changes an output of the loaded model by a bit is a difference: mutations of all that lies in its folder.

The oracle is the loaded model itself, with its tokenizers: what it computes, reads and writes before and after.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.mutations import mutated
from xmodular import XmodForCausalLM, XmodForMaskedLM, XmodForSequenceClassification, diff
from xmodular.errors import XmodularError
from xmodular.tasks import load_saved, read_labels, room_of, task_of, tokenizer_of
from xmodular.vocabulary import save_tokenizer, text_backend, train_tokenizer

from .support import tiny_model
from .test_certificate import own_vocabulary

TEXTS = [
    "the cat sees the big river",
    "a <mask> boat",
    "the <s> cat , in the morning of the big day ! it's  late",
    "w7",
    "w8 w7",
]
KINDS: dict[str, Any] = {
    "lm": (XmodForMaskedLM, {}),
    "task": (XmodForSequenceClassification, {"adapter_layer_norm": True, "adapter_reuse_layer_norm": False}),
    "causal": (XmodForCausalLM, {"is_decoder": True, "default_language": "en_XX"}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each kind with its tokenizer; Swahili has a vocabulary of its own."""
    lines = [f"the cat number {n} sees the big river , and a boat in the morning of day {n}!" for n in range(200)]
    tokenizer = train_tokenizer({"en_XX": lines}, 70)
    made = {}
    for kind, (cls, over) in KINDS.items():
        model = tiny_model(cls, **over)
        own_vocabulary(model, "sw_KE")
        if kind == "task":
            config = model.config
            config.task_language, config.finetuning_task, config.problem_type = (
                "de_DE",
                "classify",
                "single_label_classification",
            )
            config.task_max_length, config.task_stride = 8, 2
            config.id2label, config.label2id = {0: "a", 1: "b"}, {"a": 0, "b": 1}
        made[kind] = tmp_path_factory.mktemp("models") / kind
        model.save_pretrained(made[kind])
        save_tokenizer(tokenizer, made[kind], model.config)
    return made


def outputs(folder: Path) -> dict[str, Any]:
    """What a model computes, reads and writes, by name; tensors as bytes."""
    torch.manual_seed(0)
    found: dict[str, Any] = {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            model = load_saved(folder)
        except Exception as error:  # whatever it is: nothing is computed
            return {"model": f"not loaded: {type(error).__name__}"}
        found["class"] = type(model).__name__
        found["room"], found["labels"] = _or_error(lambda: room_of(model)), _or_error(lambda: read_labels(model))
        found["task"] = _or_error(lambda: task_of(model).name)
        found["language of the task"] = getattr(model.config, "task_language", None)
        for code in model.languages:
            rows = model.config.vocabularies.get(code, model.config.vocab_size)
            ids = torch.arange(20).reshape(2, 10) % (rows - 4) + 4
            for mask in (torch.ones_like(ids), (torch.arange(10) < torch.tensor([[10], [6]])).long()):
                more = {"attention_mask": mask, "lang_ids": model.lang_ids([code, code])}
                found[f"{code} {int(mask.sum())}"] = _or_error(lambda i=ids, m=more: _plain(model(i, **m)))
            found[f"tokenizer of {code}"] = _or_error(lambda c=code: _read(tokenizer_of(model, None, c)))
        shared = torch.arange(4, 12)[None]
        found["default"] = _or_error(lambda: _plain(model(shared)))
        if model.can_generate():
            ids = model.lang_ids("en_XX")
            torch.manual_seed(0)
            found["written"] = _or_error(lambda: model.generate(shared, lang_ids=ids, max_length=14).tolist())
    return found


def _or_error(work: Any) -> Any:
    try:
        return work()
    except Exception as error:
        return f"{type(error).__name__}"


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        data = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(data).hexdigest()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else type(value).__name__


def _read(tokenizer: Any) -> list[Any]:
    calls: Iterator[Any] = iter(
        (
            lambda: dict(tokenizer(TEXTS, padding=True)),
            lambda: dict(tokenizer(TEXTS, padding=True, truncation=True, max_length=6)),
            lambda: dict(tokenizer(TEXTS[2] * 8, truncation=True)),
            lambda: dict(tokenizer(TEXTS[0], TEXTS[2], truncation=True, max_length=12)),
            lambda: dict(tokenizer.pad({"input_ids": [[5, 6], [7]]})),
            lambda: tokenizer.decode(tokenizer(TEXTS[2])["input_ids"]),
            lambda: tokenizer.decode(tokenizer(TEXTS[2])["input_ids"], skip_special_tokens=True),
            lambda: [text_backend(tokenizer).encode(text).ids for text in TEXTS],
            lambda: [getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "cls", "sep", "pad", "mask")],
        )
    )
    return [_or_error(call) for call in calls]


def fooled(folders: dict[str, Path], place: Path, seeds: Iterable[int]) -> tuple[list[str], int, int]:
    """Mutations after which outputs differ and the certificate says that all is identical.

    Returns:
        These; how many were told or refused; and how many were said to be identical, whose outputs were compared.
    """
    before = {kind: outputs(folder) for kind, folder in folders.items()}
    wrong, told, compared = [], 0, 0
    for seed in seeds:
        kind = list(folders)[seed % len(folders)]
        target = place / kind
        done = mutated(folders[kind], target, seed)
        try:
            identical = diff(folders[kind], target).ok
        except XmodularError:
            identical = False
        if not identical:
            told += 1
            continue
        compared += 1
        after = outputs(target)
        differing = [name for name in {**before[kind], **after} if before[kind].get(name) != after.get(name)]
        # Where there is no tokenizer none is compared, which the guide says.
        names = ("tokenizer.json", "vocab.txt")
        if not any((target / name).is_file() for name in names):
            differing = [name for name in differing if not name.startswith("tokenizer of")]
        if differing:
            wrong.append(f"seed {seed}, {kind}, {done}: {differing}")
    return wrong, told, compared


def test_models_are_loaded_twice_alike(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        assert outputs(folder) == outputs(folder)
        assert diff(folder, folder).ok


def test_no_mutation_that_changes_an_output_is_identical(folders: dict[str, Path], tmp_path: Path) -> None:
    # Besides some of all kinds: a tokenizer that no longer says where it cuts (1974, 2765).
    wrong, told, compared = fooled(folders, tmp_path, [*range(45), 1974, 2765])
    assert wrong == []
    assert told > 15
    assert compared > 5


@pytest.mark.slow
def test_no_mutation_of_two_thousand_is_identical(folders: dict[str, Path], tmp_path: Path) -> None:
    wrong, told, compared = fooled(folders, tmp_path, range(1000, 3000))
    assert wrong == []
    assert told > 1000
    assert compared > 200
