"""Small dense encoders with each kind of tokenizer that transformers has, and the modular models made of them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, PreTrainedModel, PreTrainedTokenizerFast, RobertaTokenizer

from tests.support import scatter_weights
from xmodular import upcycle
from xmodular.vocabulary import train_tokenizer

# The first article of the Universal Declaration of Human Rights.
LINES = {
    "en_XX": "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood.",
    "de_DE": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen "
    "begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    "fr_XX": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "sw_KE": "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa. Wote wamejaliwa akili na dhamiri, hivyo yapasa "
    "watendeane kindugu.",
    "ru_RU": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
    "должны поступать в отношении друг друга в духе братства.",
    "el_GR": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "hi_IN": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "ar_AR": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "zh_CN": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "th_TH": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "ko_KR": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}
KINDS = ("wordpiece", "bytes", "unigram")
# The family whose releases have that kind, with its own fields.
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "wordpiece": ("Bert", {"type_vocab_size": 2}),
    "bytes": ("Roberta", {"type_vocab_size": 1}),
    "unigram": ("XLMRoberta", {"type_vocab_size": 1}),
}


@lru_cache
def tokenizer_of(kind: str, lower: bool = False, add_prefix_space: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer trained on the lines: mBERT's, RoBERTa's or XLM-R's class and layout."""
    if kind == "unigram":
        return train_tokenizer({code: [line] * 4 for code, line in LINES.items()}, 400)
    if kind == "bytes":
        made = ByteLevelBPETokenizer()
        names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        made.train_from_iterator(LINES.values(), vocab_size=600, min_frequency=1, special_tokens=names)
        model = json.loads(made.to_str())["model"]
        merges = [tuple(merge) for merge in model["merges"]]
        return RobertaTokenizer(vocab=model["vocab"], merges=merges, add_prefix_space=add_prefix_space)
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=lower)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=500, min_frequency=1, special_tokens=names, show_progress=False)
    pieces.train_from_iterator(LINES.values(), trainer)
    return BertTokenizer(vocab=pieces.get_vocab(), do_lower_case=lower)


def dense(kind: str, head: str, folder: Path, seed: int = 0, **over: Any) -> PreTrainedModel:
    """A dense encoder with that head and scattered weights, saved with its tokenizer."""
    family, fields = _FAMILIES[kind]
    tokenizer = tokenizer_of(kind)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
        "max_position_embeddings": 240,
        "pad_token_id": tokenizer.pad_token_id,
        "num_labels": 2 if head == "ForQuestionAnswering" else 3,
    }
    config = getattr(transformers, f"{family}Config")(**{**sizes, **fields, **over})
    model = getattr(transformers, f"{family}{head}")(config)
    torch.manual_seed(seed)
    scatter_weights(model, seed)
    model.tie_weights()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def modular(kind: str, head: str, folder: Path, **over: Any) -> Path:
    """The folder of a modular model made of such an encoder."""
    dense(kind, head, folder / "dense", **over)
    upcycle(folder / "dense", ["en", "de", "sw"], output_dir=folder / "modular")
    return folder / "modular"
