"""WordPiece, byte-level BPE and XLM-R's unigram pieces through every verb, compared with transformers' own calls."""

from __future__ import annotations

import itertools
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast, pipeline

import xmodular
from tests.kinds import KINDS, LINES, dense, modular, tokenizer_of
from tests.support import example_of, tiny_config
from xmodular import Predictor, diff, evaluate, extend, fill_mask, finetune, pack_install, pack_save, predict, pretrain
from xmodular.comparison import Certificate
from xmodular.errors import DataError, InputError
from xmodular.identification import Identifier
from xmodular.modeling import XmodForMaskedLM
from xmodular.pieces import ROLES, Notation, start_rows
from xmodular.tasks import TASKS, Room, collate, load_saved
from xmodular.tasks import tokenizer_of as tokenizer_of_model
from xmodular.tasks.places import Places
from xmodular.tasks.tokens import special_tokens_of, words_of
from xmodular.text import MaskedLMCollator, TextFiles, measured_text, word_starts
from xmodular.vocabulary import fingerprint, load_tokenizer, suited, text_backend, train_tokenizer

TEXTS = [line.replace(",", " ,") for line in LINES.values()]
PAIRS = [(LINES["en_XX"][:50], LINES["de_DE"][:40]), (LINES["ru_RU"][:20], LINES["zh_CN"]), ("free", "frei und gleich")]
QUESTION = "Who is born free?"
FAST = {"batch_size": 4, "max_steps": 1, "log_every": 1}


@pytest.fixture(autouse=True)
def registered() -> None:
    xmodular.register()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_texts_and_pairs_are_encoded_as_transformers_does(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    task = TASKS["classify"]
    pairs = [example_of(task, premise=one, hypothesis=other) for one, other in PAIRS]
    singles = [example_of(task, text=text) for text in TEXTS]
    for length, examples, given in (
        (120, pairs, PAIRS),
        (16, pairs, PAIRS),
        (20, singles, TEXTS),
    ):
        encodings = task.encode(tokenizer, examples, [], Room(length))
        ours = collate(encodings, [0] * len(examples), tokenizer.pad_token_id)
        cut = {"padding": True, "truncation": "longest_first", "max_length": length, "return_tensors": "pt"}
        theirs = tokenizer(*(zip(*given, strict=True) if given is PAIRS else [given]), **cut)
        for name in ("input_ids", "attention_mask"):
            assert torch.equal(ours[name], theirs[name]), name
        assert ("token_type_ids" in ours) is (kind == "wordpiece" and given is PAIRS)
        if "token_type_ids" in ours:
            assert torch.equal(ours["token_type_ids"], theirs["token_type_ids"])
            assert ours["token_type_ids"].any()


def test_questions_and_choices_are_encoded_as_transformers_does(kind: str) -> None:
    tokenizer, context = tokenizer_of(kind), LINES["en_XX"]
    questions = TASKS["qa"]
    example = example_of(questions, question=QUESTION, context=context, answers="human beings")
    (encoding,) = questions.encode(tokenizer, [example], [], Room(200))
    ours = collate([encoding], [0], tokenizer.pad_token_id)
    theirs = tokenizer(QUESTION, context, return_offsets_mapping=True)
    assert ours["input_ids"][0].tolist() == theirs["input_ids"]
    assert ("token_type_ids" in ours) is (kind == "wordpiece")
    if "token_type_ids" in ours:
        assert ours["token_type_ids"][0].tolist() == theirs["token_type_ids"]
    start, end = context.index("human"), context.index("beings") + len("beings")
    inside = [place for place, side in enumerate(theirs.sequence_ids()) if side == 1]
    spans = theirs["offset_mapping"]
    trimmed = {p: (spans[p][0] + context[slice(*spans[p])].startswith(" "), spans[p][1]) for p in inside}
    covering = [p for p in inside if trimmed[p][0] < trimmed[p][1] and trimmed[p][1] > start and trimmed[p][0] < end]
    assert encoding.target == (covering[0], covering[-1])
    choices = TASKS["choice"]
    several = example_of(choices, context=PAIRS[0][0], choices=["frei", "gleich und frei"], label=0)
    batch = collate(choices.encode(tokenizer, [several], [], Room(60)), [0], tokenizer.pad_token_id)
    told = tokenizer([PAIRS[0][0]] * 2, ["frei", "gleich und frei"], padding=True, return_tensors="pt")
    assert torch.equal(batch["input_ids"][0], told["input_ids"])
    if kind == "wordpiece":
        assert torch.equal(batch["token_type_ids"][0], told["token_type_ids"])


@pytest.mark.parametrize("spaced", [False, True])
def test_words_are_read_as_in_their_sentence(kind: str, spaced: bool) -> None:
    tokenizer = tokenizer_of(kind, add_prefix_space=spaced)
    sentences = [text.split() for text in TEXTS]
    found = words_of(tokenizer, sentences)
    for text, words, tokens in zip(TEXTS, sentences, found, strict=True):
        assert tokens.ids == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert sorted({word for word in tokens.word_ids if word is not None}) == list(range(len(words)))
        if kind != "bytes" or spaced:  # else transformers refuses words
            told = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
            assert (tokens.ids, tokens.word_ids) == (told["input_ids"], told.word_ids())


def test_word_starts_are_those_of_the_text(kind: str) -> None:
    """Of scripts with spaces: what follows a space, and in BERT's tokenizers a mark of punctuation."""
    tokenizer = tokenizer_of(kind)
    starts = word_starts(tokenizer)
    for code in ("en_XX", "de_DE", "sw_KE", "ru_RU", "el_GR", "hi_IN", "ar_AR", "ko_KR"):
        tokens = tokenizer(LINES[code], add_special_tokens=False, return_offsets_mapping=True)
        if kind == "wordpiece":
            ids = tokens.word_ids()
            wanted = [place == 0 or ids[place] != ids[place - 1] for place in range(len(ids))]
        else:
            words = list(itertools.accumulate(LINES[code], lambda count, letter: count + (letter == " "), initial=0))
            of = [words[start + (LINES[code][start : start + 1] == " ")] for start, _ in tokens["offset_mapping"]]
            wanted = [place > 0 and of[place] != of[place - 1] for place in range(len(of))]
            wanted[0] = kind == "unigram"  # a line's first word has no space before it
        assert starts[tokens["input_ids"]].tolist() == wanted, code
    for code in ("zh_CN",):
        ids = tokenizer(LINES[code], add_special_tokens=False)["input_ids"]
        read = Notation.of(tokenizer.backend_tokenizer).read
        first = [read(piece).text[:1] for piece in tokenizer.convert_ids_to_tokens(ids)]
        for index, character in zip(ids, first, strict=True):
            if "\u4e00" <= character <= "\u9fff":
                assert starts[index]


def test_whole_words_are_masked(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    starts = word_starts(tokenizer)
    collator = MaskedLMCollator(
        special_ids=tokenizer.all_special_ids,
        mask_id=tokenizer.mask_token_id,
        pad_id=tokenizer.pad_token_id,
        vocab_size=len(tokenizer),
        probability=0.3,
        word_starts=starts,
    )
    ids = np.array([tokenizer(LINES["en_XX"], truncation=True, max_length=60)["input_ids"]] * 40)
    labels = collator([{"input_ids": row, "lang_id": 0, "draw": draw} for draw, row in enumerate(ids)])["labels"]
    chosen = labels.numpy() != -100
    assert chosen.any()
    assert not chosen[:, [0, -1]].any()
    goes_on = ~starts[ids[0]][2:-1]
    assert (chosen[:, 2:-1] == chosen[:, 1:-2])[:, goes_on].all()


@pytest.mark.parametrize("lower", [False, True])
def test_places_are_those_of_the_characters(kind: str, lower: bool) -> None:
    tokenizer = tokenizer_of(kind, lower=lower)
    for text in LINES.values():
        (placed,) = Places(tokenizer)([text])
        told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        assert placed.ids == told["input_ids"]
        covered = set()
        for (start, end), (given, until) in zip(placed.spans, told["offset_mapping"], strict=True):
            assert text[start:end] == text[start:end].strip()
            # A unigram mark alone points at a letter; vowel signs that are stripped belong to no token of transformers.
            if kind != "unigram" and not lower:
                assert text[start:end] == text[given:until].strip()
            covered.update(range(start, end))
        assert covered == {place for place, character in enumerate(text) if not character.isspace()}


def test_a_lower_casing_tokenizer_does_not_tell_capitals_and_accents(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("wordpiece", lower=True)
    text = "Tous les Êtres humains naissent libres et égaux\n"
    (tmp_path / "fr.txt").write_text(text, encoding="utf-8")
    measured = measured_text(TextFiles("fr_XX", (tmp_path / "fr.txt",)), tokenizer, 32)
    lost = [letter for letter in text if letter.isupper() or unicodedata.normalize("NFD", letter) != letter]
    assert measured.unknown.sum() == 0
    assert (measured.untold.sum(), measured.untold_bytes.sum()) == (3, sum(len(each.encode()) for each in lost))
    assert measured.characters.sum() == len(text)


def test_characters_and_what_is_unknown(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(kind)
    text = "".join(line + "\n" for line in LINES.values()) + "🎉 ⵣⵣ\n"
    (tmp_path / "x.txt").write_text(text, encoding="utf-8")
    measured = measured_text(TextFiles("en_XX", (tmp_path / "x.txt",)), tokenizer, 32)
    assert measured.characters.sum() == len(text)
    untold = 0 if kind == "bytes" else len("🎉ⵣⵣ".encode())
    assert measured.untold_bytes.sum() == untold
    ends = (measured.blocks == tokenizer.sep_token_id).sum()
    assert ends == len(LINES) + 1
    assert (measured.blocks[:, 0] == tokenizer.cls_token_id).all()
    tokens = sum(len(tokenizer(line, add_special_tokens=False)["input_ids"]) for line in text.splitlines())
    assert measured.ordinary.sum() + measured.unknown.sum() == tokens


def same_numbers(ours: float, theirs: float) -> None:
    assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.filterwarnings("ignore:.*")
def test_predictions_are_those_of_transformers_pipelines(kind: str, tmp_path: Path) -> None:
    dense_one = dense(kind, "ForSequenceClassification", tmp_path / "a" / "dense")
    folder = modular(kind, "ForSequenceClassification", tmp_path / "a")
    pipe = pipeline("text-classification", model=dense_one, tokenizer=load_tokenizer(tmp_path / "a" / "dense"))
    told = pipe([{"text": one, "text_pair": other} for one, other in PAIRS])
    found = Predictor(folder, default_language="de")(PAIRS)
    assert [each["label"] for each in found] == [each["label"] for each in told]
    for one, other in zip(found, told, strict=True):
        same_numbers(one["score"], other["score"])
    ours = pipeline("text-classification", model=load_saved(folder), tokenizer=load_tokenizer(folder))
    again = ours([{"text": one, "text_pair": other} for one, other in PAIRS], language="sw")
    for one, other in zip(again, told, strict=True):
        same_numbers(one["score"], other["score"])

    source = dense(kind, "ForQuestionAnswering", tmp_path / "q" / "dense")
    folder = modular(kind, "ForQuestionAnswering", tmp_path / "q")
    tokenizer = load_tokenizer(tmp_path / "q" / "dense")
    for code in ("en_XX", "ru_RU", "zh_CN", "hi_IN"):
        row = {"question": QUESTION, "context": LINES[code]}
        (answer,) = Predictor(folder, default_language="de", max_length=230)([row])
        assert answer["answer"] == LINES[code][answer["start"] : answer["end"]]
        with torch.inference_mode():
            out = source(**tokenizer(QUESTION, LINES[code], return_tensors="pt"))
        told = tokenizer(QUESTION, LINES[code], return_offsets_mapping=True)
        assert answer["answer"] == best_answer(out, told, LINES[code])


def best_answer(out: Any, told: Any, context: str) -> str:
    """The text of the span with the highest sum of logits, by trying all."""
    inside = [place for place, side in enumerate(told.sequence_ids()) if side == 1]
    offsets = told["offset_mapping"]
    scored = [
        (float(out.start_logits[0, first] + out.end_logits[0, last]), context[offsets[first][0] : offsets[last][1]])
        for last in inside
        for first in inside
        if first <= last < first + 64
    ]
    return max(each for each in scored if each[1].strip())[1].strip()


def test_tags_are_those_of_the_dense_model(kind: str, tmp_path: Path) -> None:
    source = dense(kind, "ForTokenClassification", tmp_path / "dense")
    folder = modular(kind, "ForTokenClassification", tmp_path)
    tokenizer = tokenizer_of(kind)
    words = LINES["de_DE"].split()
    text = " ".join(words)
    told = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = told.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        labels = source(**told).logits[0].argmax(-1)
    edges = list(itertools.accumulate((len(word) + 1 for word in words), initial=0))
    wanted = []
    for start, end in itertools.pairwise(edges):  # the first token of each word, the space before it included
        first = next(
            place
            for place, (a, b) in enumerate(offsets)
            if 0 < place < len(offsets) - 1 and max(a, start - 1) < b <= end and a >= start - 1
        )
        wanted.append(source.config.id2label[int(labels[first])])
    (found,) = Predictor(folder, default_language="en")([{"words": words}])
    assert found["tags"] == wanted


def test_masks_are_filled_as_by_transformers(kind: str, tmp_path: Path) -> None:
    source = dense(kind, "ForMaskedLM", tmp_path / "dense")
    folder = modular(kind, "ForMaskedLM", tmp_path)
    tokenizer = load_tokenizer(tmp_path / "dense")
    text = f"Alle Menschen sind {tokenizer.mask_token} und gleich."
    pipe = pipeline("fill-mask", model=source, tokenizer=tokenizer, top_k=len(tokenizer))
    told = [each for each in pipe(text) if each["token"] not in tokenizer.all_special_ids][:3]
    total = sum(each["score"] for each in pipe(text) if each["token"] not in tokenizer.all_special_ids)
    for spelled in (text, "Alle Menschen sind <mask> und gleich."):
        found = fill_mask(folder, spelled, language="de", top_k=3)
        for one, other in zip(found, told, strict=True):
            assert one.piece == other["token_str"].strip()
            same_numbers(one.probability, other["score"] / total)
            assert one.text.replace(" ", "").startswith("AlleMenschensind")
    with pytest.raises(InputError, match=r"There is no .*mask"):
        fill_mask(folder, "no mask here", language="de")


def rows_of(task: str) -> list[dict[str, Any]]:
    texts = [LINES[code][:40] for code in ("en_XX", "de_DE", "sw_KE", "ru_RU")] * 2
    if task == "tag":
        return [{"words": text.split(), "tags": ["O", *["X"] * (len(text.split()) - 1)]} for text in texts]
    if task == "qa":
        return [{"question": QUESTION, "context": text, "answers": text.split()[1]} for text in texts]
    if task == "choice":
        return [{"premise": text, "choices": ["frei", "gleich"], "label": 0} for text in texts]
    if task == "embed":
        pairs = [{"text": f"{text} {place}", "positive": f"frei {text} {place}"} for place, text in enumerate(texts)]
        return [{**pair, "positive_language": "de"} for pair in pairs]
    label = {"label": "x"} if task == "classify" else {"score": 0.5}
    rows: list[dict[str, Any]] = [{"premise": text, "hypothesis": "frei", **label} for text in texts]
    if task == "classify":
        rows[0]["label"] = "y"
    return rows


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        *(("wordpiece", task) for task in TASKS),
        *(("bytes", task) for task in ("classify", "tag", "qa")),
        ("unigram", "classify"),  # the kind of all other tests
    ],
    indirect=["kind"],
)
def test_every_task_through_every_verb(kind: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = modular(kind, "Model", tmp_path)
    path = tmp_path / "en_XX.test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(task)), encoding="utf-8")
    seen: list[set[int]] = []
    forward = xmodular.XmodModel.forward

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        types = kwargs.get("token_type_ids", args[3] if len(args) > 3 else None)
        seen.append(set() if types is None else set(types.flatten().tolist()))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(xmodular.XmodModel, "forward", watched)
    finetune(folder, path, task=task, dev=path, language="en", output_dir=tmp_path / "run", **FAST)
    told = {0, 1} if kind == "wordpiece" and task not in ("tag", "embed") else set()
    assert seen
    assert all(each == told for each in seen)
    seen.clear()
    evaluate(tmp_path / "run", path, adapter=["right"])
    predict(tmp_path / "run", path, tmp_path / "out.jsonl")
    assert len(seen) >= 2
    assert all(each == told for each in seen)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 8
    assert fingerprint(load_tokenizer(tmp_path / "run")) == fingerprint(load_tokenizer(folder))


def test_a_model_of_one_type_is_given_none(tmp_path: Path) -> None:
    """One that is pretrained here with BERT's tokenizer has one type of token."""
    tokenizer = tokenizer_of("wordpiece")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "text").mkdir()
    for code in ("en_XX", "de_DE"):
        words = LINES[code].split()
        lines = "".join(" ".join(words[start:] + words[:start]) + "\n" for start in range(len(words)))
        (tmp_path / "text" / f"{code}.txt").write_text(lines, encoding="utf-8")
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 37}
    options = {"block_size": 32, "dev_fraction": 0.2, "whole_words": True, **FAST}
    run = pretrain(
        tmp_path / "text",
        tokenizer=str(tmp_path / "tokenizer"),
        preset="tiny",
        overrides=small,
        output_dir=tmp_path / "base",
        **options,
    )
    assert run.model.config.type_vocab_size == 1
    assert (run.model.config.pad_token_id, run.model.config.bos_token_id, run.model.config.eos_token_id) == (0, 2, 3)
    assert "token_type_ids" not in load_tokenizer(tmp_path / "base").model_input_names
    assert "token_type_ids" in tokenizer.model_input_names
    path = tmp_path / "en_XX.train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of("classify")), encoding="utf-8")
    finetune(tmp_path / "base", path, task="classify", language="en", output_dir=tmp_path / "run", **FAST)
    plain = Predictor(tmp_path / "run")(PAIRS, "en")
    given = Predictor(tmp_path / "run", tokenizer)(PAIRS, "en")  # an object that tells types
    assert [each["score"] for each in plain] == [each["score"] for each in given]
    pipe = pipeline("text-classification", model=load_saved(tmp_path / "run"), tokenizer=tokenizer)
    assert pipe({"text": "free", "text_pair": "frei"}, language="en")["label"] in ("x", "y")


def long_text(path: Path, code: str) -> Path:
    words = LINES[code].split()
    lines = [" ".join((words * 2)[start : start + 12]) for start in range(len(words))]
    path.write_text("\n".join(lines * 2) + "\n", encoding="utf-8")
    return path


def test_a_language_with_the_base_vocabulary_and_its_pack(kind: str, tmp_path: Path) -> None:
    folder = modular(kind, "ForMaskedLM", tmp_path)
    text = long_text(tmp_path / "mt.txt", "fr_XX")
    small = {"block_size": 32, "dev_fraction": 0.2, "whole_words": True, **FAST}
    run = extend(folder, "mt", text, output_dir=tmp_path / "more", **small)
    assert Certificate.from_json(tmp_path / "more" / "certificate.json").ok
    assert run.metrics["after"]["unknown"] < 0.2
    pack = tmp_path / "more" / "pack"
    assert json.loads((pack / "pack.json").read_text(encoding="utf-8"))["base"]["tokenizer"] == fingerprint(
        load_tokenizer(folder)
    )
    pack_install(pack, folder, output_dir=tmp_path / "installed")
    assert diff(tmp_path / "more", tmp_path / "installed").ok
    pack_save(tmp_path / "installed", "de", output_dir=tmp_path / "de")
    data = tmp_path / "texts"
    data.mkdir()
    long_text(data / "mt.test.txt", "fr_XX")
    results = evaluate(tmp_path / "installed", data, adapter=["right"])
    assert results.rows


def test_an_encoder_without_a_head_goes_on_learning(kind: str, tmp_path: Path) -> None:
    folder = modular(kind, "Model", tmp_path)
    (tmp_path / "text").mkdir()
    for code in ("en_XX", "de_DE"):
        long_text(tmp_path / "text" / f"{code}.txt", code)
    small = {"block_size": 32, "dev_fraction": 0.2, "whole_words": True, **FAST}
    pretrain(tmp_path / "text", model=folder, trainable="head", output_dir=tmp_path / "run", **small)
    assert fingerprint(load_tokenizer(tmp_path / "run")) == fingerprint(load_tokenizer(folder))
    assert len(fill_mask(tmp_path / "run", "Alle Menschen <mask> frei", language="de")) == 5


def test_a_language_with_a_new_vocabulary(kind: str, tmp_path: Path) -> None:
    """Its padding is the base's, its frame too, and its special tokens and known words have the base's rows."""
    folder = modular(kind, "ForMaskedLM", tmp_path)
    known = load_tokenizer(folder)
    before = load_saved(folder).roberta.embeddings.word_embeddings.weight.detach()
    text = long_text(tmp_path / "mt.txt", "de_DE")
    small = {"block_size": 32, "dev_fraction": 0.2, "learning_rate": 1e-12, **FAST}
    run = extend(folder, "mt", text, new_vocabulary=90, output_dir=tmp_path / "more", **small)
    model = load_saved(tmp_path / "more")
    own = tokenizer_of_model(model, None, "mt")
    assert own.pad_token_id == known.pad_token_id
    frames = [
        (tuple(names[index] for index in (*frame.before, *frame.between, *frame.after)), frame.kinds)
        for tokenizer in (own, known)
        for names in [{tokenizer.cls_token_id: "begin", tokenizer.sep_token_id: "end"}]
        for frame in [special_tokens_of(tokenizer, 2)]
    ]
    assert frames[0] == frames[1]
    rows = model.roberta.embeddings.words("mt").weight.detach()
    for role in ROLES:
        one, other = (getattr(each, f"{role}_token_id") for each in (own, known))
        torch.testing.assert_close(rows[one], before[other], atol=1e-6, rtol=0)
    assert Certificate.from_json(tmp_path / "more" / "certificate.json").ok
    found = fill_mask(tmp_path / "more", "Alle Menschen <mask> frei", language="mt")
    assert len(found) == 5
    pack_install(tmp_path / "more" / "pack", folder, output_dir=tmp_path / "installed")
    assert diff(tmp_path / "more", tmp_path / "installed").ok
    assert run.metrics["after"]["bits_per_character"] > 0


def test_new_rows_are_spelled_by_the_known_pieces() -> None:
    new = train_tokenizer({"de": [LINES["de_DE"]] * 4}, 90)
    for kind in KINDS:
        known = tokenizer_of(kind)
        words = torch.randn(len(known), 8, generator=torch.Generator().manual_seed(1))
        rows, _, counts = start_rows(new, known, words, torch.zeros(len(known)))
        read = Notation.of(new.backend_tokenizer).read
        for index, piece in enumerate(new.convert_ids_to_tokens(list(range(len(new))))):
            begins, text = read(piece)
            if index in new.all_special_ids or not text:
                continue
            if begins:  # a word by itself; byte-level tokenizers need the space before it
                ids = text_backend(known).encode(" " + text, add_special_tokens=False).ids
            else:  # the same letters within a word, if that is a piece
                inside = {"wordpiece": f"##{text}", "bytes": text, "unigram": text}[kind]
                ids = [known.get_vocab()[inside]] if text.isascii() and inside in known.get_vocab() else []
            if ids and known.unk_token_id not in ids:
                assert torch.allclose(rows[index], words[ids].mean(0), atol=1e-6), piece
        assert counts["random"] <= 2
        assert counts["copied"] > 20


def test_a_language_with_a_given_vocabulary_of_each_kind(kind: str, tmp_path: Path) -> None:
    folder = modular("wordpiece", "ForMaskedLM", tmp_path)
    tokenizer_of(kind).save_pretrained(tmp_path / "own")
    text = long_text(tmp_path / "mt.txt", "fr_XX")
    small = {"block_size": 32, "dev_fraction": 0.2, **FAST, "tokenizer": str(tmp_path / "own")}
    if kind != "wordpiece":  # its padding is another
        with pytest.raises(InputError, match=r"<pad> has id 1: it must be 0"):
            extend(folder, "mt", text, output_dir=tmp_path / "more", **small)
        assert not (tmp_path / "more").exists()
        return
    extend(folder, "mt", text, output_dir=tmp_path / "more", **small)
    own = tokenizer_of_model(load_saved(tmp_path / "more"), None, "mt")
    assert (own.cls_token, own.sep_token, own.mask_token) == ("[CLS]", "[SEP]", "[MASK]")
    assert special_tokens_of(own, 2) == special_tokens_of(tokenizer_of(kind), 2)
    assert fill_mask(tmp_path / "more", "Tous les <mask> humains", language="mt")
    pack_install(tmp_path / "more" / "pack", folder, output_dir=tmp_path / "installed")
    assert diff(tmp_path / "more", tmp_path / "installed").ok


def test_a_tokenizer_json_without_other_files_is_read_as_it_stands(kind: str, tmp_path: Path) -> None:
    """Not by the class of the model beside it, which may cut texts in another way."""
    folder = modular(kind, "Model", tmp_path)
    (folder / "tokenizer_config.json").unlink()
    found, told = load_tokenizer(folder), tokenizer_of(kind)
    for one, other in PAIRS:
        assert found(one, other)["input_ids"] == told(one, other)["input_ids"]
        assert found(one, other).get("token_type_ids") == told(one, other).get("token_type_ids")
    assert [getattr(found, f"{role}_token_id") for role in ROLES] == [
        getattr(told, f"{role}_token_id") for role in ROLES
    ]


def test_special_tokens_of_bert_say_nothing_about_a_language() -> None:
    read = Identifier(["en_XX", "sw_KE"])
    plain, marked = read(["Watu wote huru", "[CLS] Watu wote huru [SEP] [MASK] [PAD] [PAD] [UNK]"])
    assert (plain.language, plain.confidence) == (marked.language, marked.confidence)
    assert read(["[MASK] [SEP]"])[0].language is None


def test_the_frame_is_what_the_template_says() -> None:
    """Types of special tokens and of the first text may differ from 0 too."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of("unigram").backend_tokenizer.__class__.from_str(
            tokenizer_of("unigram").backend_tokenizer.to_str()
        ),
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s>:2 $A:1 </s>:1", pair="<s>:2 $A:1 </s>:1 </s>:0 $B:0", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    for texts in (PAIRS[0][:1], PAIRS[0]):
        told = tokenizer(*texts)
        frame = special_tokens_of(tokenizer, len(texts))
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        assert list(frame.around(*ids)) == told["input_ids"]
        assert list(frame.types(*map(len, ids))) == told["token_type_ids"]
    one_type = suited(tokenizer, tiny_config(type_vocab_size=1))
    assert special_tokens_of(one_type, 2).kinds == ()


def test_a_tokenizer_that_is_no_tokenizer_of_the_model(tmp_path: Path) -> None:
    model = XmodForMaskedLM(tiny_config(vocab_size=99))
    tokenizer_of("wordpiece").save_pretrained(tmp_path)
    with pytest.raises(DataError, match="500 pieces"):
        tokenizer_of_model(model, tmp_path)
