"""Mutations of a saved model: of its configuration, its tensors, the layout of its files, its tokenizers."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Mutation = Callable[[Path, random.Random], None]

# Fields that stand in no configuration by themselves, or have values that no arithmetic finds.
_VALUES: dict[str, list[Any]] = {
    "architectures": [["XmodModel"], ["XmodForMaskedLM"], ["XmodForTokenClassification"], None, []],
    "attn_implementation": ["eager", "sdpa"],
    "_attn_implementation": ["eager", "sdpa"],
    "transformers_weights": ["other.safetensors", "model.safetensors"],
    "dtype": ["float16", "bfloat16", "float64", "torch.float32", None],
    "torch_dtype": ["float16", "bfloat16", None],
    "hidden_act": ["relu", "gelu_new", "silu", "gelu_fast"],
    "position_embedding_type": ["relative_key", "relative_key_query"],
    "classifier_pooling": ["mean", "first"],
    "layout": ["grid", "packed"],
    "default_language": ["de_DE", "sw_KE", None],
    "task_language": ["de_DE", "sw_KE", None],
    "task_max_length": [5, 7, 8.0, "8", None],
    "task_stride": [1, 2.0, None],
    "finetuning_task": ["classify", "regress", "tag", None],
    "problem_type": ["regression", "single_label_classification", "multi_label_classification", None],
    "quantization_config": [{"quant_method": "bitsandbytes", "load_in_8bit": True}],
    "chunk_size_feed_forward": [1, 3],
    "num_labels": [2, 3, 5],
    "id2label": [{"0": "b", "1": "a"}, {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, {"1": "a"}],
    "vocabularies": [{}, {"sw_KE": 11}, {"sw_KE": 12, "de_DE": 12}],
    "pruned_heads": [{"0": [1]}, {"1": [0, 2]}, {}],
    "transformers_version": ["4.0.0", "9.9.9"],
    "task_data": [{"train": ["x"]}],
    "never_heard_of": [1, "x"],
    "use_bfloat16": [True],
    "torchscript": [True],
    "return_dict": [False],
    "output_hidden_states": [True],
    "output_attentions": [True],
    "fusion_config": [{"patch_embeddings": True}],
    "tokenizer_class": ["BertTokenizer", "XLMRobertaTokenizer"],
    "auto_map": [{"AutoConfig": "evil.Config"}],
    "per_layer_config": [{"0": {"hidden_act": "relu"}}],
    "temperature": [0.5],
    "do_sample": [True],
}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _other(value: Any, draw: random.Random) -> Any:
    """Another value like this one, or of another type."""
    if isinstance(value, bool):
        return draw.choice([not value, int(value), None])
    if isinstance(value, int):
        return draw.choice([value + 1, max(value - 1, 0), value * 2, float(value), 0])
    if isinstance(value, float):
        return draw.choice([value * 1.5, value + 0.25, 0.0, value * (1 + 1e-6), 1])
    if isinstance(value, str):
        return draw.choice([value + "x", "", value.upper(), value.lower()])
    if isinstance(value, list):
        return draw.choice([value[1:], value[::-1], value + value[:1], value[:-1]])
    if isinstance(value, dict) and value:
        key = draw.choice(list(value))
        return {**value, key: _other(value[key], draw)}
    return draw.choice([1, "x", [], {}, True])


def field(folder: Path, draw: random.Random) -> None:
    """One field of the configuration gets another value, comes or goes."""
    path = folder / "config.json"
    content = _read(path)
    name = draw.choice(sorted({*content, *_VALUES}))
    if name in content and draw.random() < 0.15:
        del content[name]
    else:
        known = _VALUES.get(name, [])
        content[name] = draw.choice(known) if known and draw.random() < 0.8 else _other(content.get(name), draw)
    _write(path, content)
    if name == "transformers_weights":
        state = load_file(folder / "model.safetensors")
        save_file({key: value + 1 for key, value in state.items()}, folder / "other.safetensors", {"format": "pt"})


def _alias(name: str, draw: random.Random) -> str:
    bare = name.removeprefix("roberta.")
    return draw.choice(
        [
            *(bare, f"roberta.{bare}", f"roberta.{name}", f"roberta_{bare}", f"roberta.roberta.{name}"),
            *(name.replace("LayerNorm.weight", "LayerNorm.gamma"), name.replace("LayerNorm.bias", "LayerNorm.beta")),
            *(name.replace("layer.0", "layer.00"), f"{name}.other", name.replace("word_embeddings", "words")),
        ]
    )


def _changed(tensor: Tensor, draw: random.Random) -> Tensor:
    """One bit, one value, or all of them."""
    tensor = tensor.clone()
    flat = tensor.view(-1)
    place = draw.randrange(flat.numel())
    kind = draw.randrange(4)
    if kind == 0:
        flat[place : place + 1].view(torch.int32).bitwise_xor_(1 << draw.randrange(31))
    elif kind == 1:
        flat[place] += 1
    elif kind == 2:
        flat.add_(0.5)
    else:
        flat.copy_(flat.flip(0).clone())
    return tensor


def tensor(folder: Path, draw: random.Random) -> None:
    """A tensor changes, goes, gets another type or name; or a second one of nearly its name stands beside it."""
    state = load_file(folder / "model.safetensors")
    name = draw.choice(sorted(state))
    kind = draw.randrange(7)
    if kind <= 1:
        state[name] = _changed(state[name], draw)
    elif kind == 2:
        state[name] = state[name].to(draw.choice([torch.float16, torch.bfloat16, torch.float64]))
    elif kind == 3:
        del state[name]
    elif kind == 4:
        state[_alias(name, draw)] = _changed(state[name], draw)
    elif kind == 5:
        kept = state.pop(name)
        state[_alias(name, draw)] = kept
    else:
        twins = [other for other in sorted(state) if state[other].shape == state[name].shape]
        other = draw.choice(twins)
        state[name], state[other] = state[other].clone(), state[name].clone()
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def layout(folder: Path, draw: random.Random) -> None:
    """The weights move to shards, a pickle or other files; what the index says of them may be wrong."""
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    draw.shuffle(names)
    kind = draw.randrange(8)
    if kind == 0:
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        return
    if kind == 1:  # two kinds of files, one of which is read
        torch.save({key: value + 1 for key, value in state.items()}, folder / "pytorch_model.bin")
        return
    if kind == 2:
        other = {key: value + 1 for key, value in state.items()}
        save_file(other, folder / "shard-00000-model-00001-of-00001.safetensors", {"format": "pt"})
        return
    halves = [names[: len(names) // 2], names[len(names) // 2 :]]
    files = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index: dict[str, Any] = {"metadata": {"total_size": 1}, "weight_map": {}}
    parts = []
    for half, file in zip(halves, files, strict=True):
        parts.append({key: state[key] for key in half})
        index["weight_map"] |= dict.fromkeys(half, file)
    one = draw.choice(halves[0])
    if kind == 3:  # the second shard has it too, and the index does not say so
        parts[1][one] = _changed(state[one], draw)
    elif kind == 4:
        parts[0][_alias(one, draw)] = _changed(state[one], draw)
    elif kind == 5:
        index["metadata"]["dtype"] = draw.choice(["float16", "bfloat16", "float32"])
        if draw.random() < 0.7:
            content = _read(folder / "config.json")
            content.pop("dtype", None)
            _write(folder / "config.json", content)
    elif kind == 6:
        del index["weight_map"][one]
    for part, file in zip(parts, files, strict=True):
        save_file(part, folder / file, {"format": "pt"})
    _write(folder / "model.safetensors.index.json", index)
    if kind != 7 or draw.random() < 0.5:
        (folder / "model.safetensors").unlink()


_OF_TOKENIZERS: dict[str, list[Any]] = {
    "padding_side": ["left", "right"],
    "truncation_side": ["left", "right"],
    "model_max_length": [4, 6, 100, 1e30],
    "tokenizer_class": ["XLMRobertaTokenizer", "BertTokenizer", "PreTrainedTokenizerFast", "CamembertTokenizer"],
    "model_input_names": [["input_ids"], ["input_ids", "token_type_ids", "attention_mask"]],
    "clean_up_tokenization_spaces": [True, False],
    "split_special_tokens": [True],
    "add_prefix_space": [True, False],
    "add_bos_token": [True, False],
    "add_eos_token": [True, False],
    "pad_token": ["<mask>", "<pad>", "</s>"],
    "mask_token": ["<unk>"],
    "cls_token": ["</s>"],
    "sep_token": ["<s>"],
    "unk_token": ["<pad>"],
    "extra_special_tokens": [["cat"]],
    "additional_special_tokens": [["cat"]],
    "pad_token_type_id": [1],
    "chat_template": ["x"],
    "do_lower_case": [True],
    "added_tokens_decoder": [{"4": {"content": "<mask>", "lstrip": False, "special": True}}],
}


def tokenizer(folder: Path, draw: random.Random) -> None:
    """Something in the tokenizer that languages share."""
    path, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    kind = draw.randrange(9)
    content = _read(path)
    if kind <= 2:
        said = _read(settings)
        name = draw.choice(sorted({*said, *_OF_TOKENIZERS}))
        if name in said and draw.random() < 0.2:
            del said[name]
        else:
            known = _OF_TOKENIZERS.get(name, [])
            said[name] = draw.choice(known) if known and draw.random() < 0.8 else _other(said.get(name), draw)
        _write(settings, said)
        return
    if kind == 3:
        way = draw.choice(["Left", "Right"])
        content["truncation"] = {"direction": way, "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    elif kind == 4:
        content["padding"] = {
            "strategy": draw.choice(["BatchLongest", {"Fixed": 12}]),
            "direction": draw.choice(["Left", "Right"]),
            "pad_to_multiple_of": draw.choice([None, 8]),
            "pad_id": draw.choice([0, 1]),
            "pad_type_id": 0,
            "pad_token": draw.choice(["<pad>", "<s>"]),
        }
    elif kind == 5:
        pieces = content["model"]["vocab"]
        one, other = draw.randrange(5, len(pieces)), draw.randrange(5, len(pieces))
        if draw.random() < 0.5:
            pieces[one][1] -= draw.choice([0.5, 4.0, 1e-9])
        else:
            pieces[one][0], pieces[other][0] = pieces[other][0], pieces[one][0]
    elif kind == 6:
        name = draw.choice(["normalizer", "pre_tokenizer", "post_processor", "decoder"])
        content[name] = None
    elif kind == 7:
        added = draw.choice(content["added_tokens"])
        flag = draw.choice(["lstrip", "rstrip", "normalized", "single_word", "special"])
        added[flag] = not added[flag]
    else:
        name = draw.choice(["special_tokens_map.json", "added_tokens.json", "vocab.txt", "chat_template.jinja"])
        extra = {"special_tokens_map.json": {"pad_token": "</s>"}, "added_tokens.json": {"cat": 700}}.get(name, "x")
        _write(folder / name, extra)
        return
    _write(path, content)


def own_tokenizer(folder: Path, draw: random.Random) -> None:
    """Something in the tokenizer of a language with a vocabulary of its own."""
    path = folder / "tokenizer.sw_KE.json"
    content = _read(path)
    kind = draw.randrange(4)
    if kind == 0:
        path.unlink()
        return
    if kind == 1:
        vocabulary = content["model"]["vocab"]
        one, other = draw.sample([name for name in vocabulary if name.startswith("w")], 2)
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    elif kind == 2:
        content["pre_tokenizer"] = {"type": "Whitespace"}
    else:
        content["truncation"] = {"direction": "Left", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    _write(path, content)


def generation(folder: Path, draw: random.Random) -> None:
    """How a causal model writes."""
    path = folder / "generation_config.json"
    content = _read(path) if path.is_file() else {}
    pool = {"max_new_tokens": [3], "repetition_penalty": [5.0], "eos_token_id": [7, 50], "min_new_tokens": [9]}
    pool |= {"do_sample": [True], "num_beams": [2], "bad_words_ids": [[[9]]], "transformers_version": ["1"]}
    name = draw.choice(sorted(pool))
    content[name] = draw.choice(pool[name])
    _write(path, content)


MUTATIONS: tuple[Mutation, ...] = (field, field, tensor, layout, tokenizer, own_tokenizer, generation)


def mutated(source: Path, target: Path, seed: int) -> str:
    """A copy of a model with one to three mutations, drawn by the seed; says which."""
    draw = random.Random(seed)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    done = []
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        mutation = draw.choice(MUTATIONS)
        try:
            mutation(target, draw)
            done.append(mutation.__name__)
        except FileNotFoundError:  # an earlier one took the file away
            continue
    return " ".join(done)
