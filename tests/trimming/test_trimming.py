"""Trim models: equal outputs on the pieces that stay, a true report, and every verb afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from tests.kinds import KINDS, LINES, modular, tokenizer_of
from tests.support import tiny_model
from xmodular import (
    Predictor,
    XmodForMaskedLM,
    cli,
    convert,
    diff,
    donors,
    embed,
    evaluate,
    extend,
    fill_mask,
    finetune,
    pack_install,
    pack_save,
    trim,
)
from xmodular.errors import ConfigurationError, DataError, LanguageError, PackError
from xmodular.modeling import XmodForCausalLM
from xmodular.saved_models import load_saved
from xmodular.text import TextFiles
from xmodular.trimming.kept_pieces import covering
from xmodular.vocabulary import from_json, load_tokenizer, save_tokenizer, train_tokenizer
from xmodular.weights import open_weights

TEXT = {"de_DE": LINES["de_DE"], "sw_KE": LINES["sw_KE"]}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """German and Swahili in two files, sentence by sentence."""
    folder = tmp_path / "text"
    folder.mkdir()
    for code, line in TEXT.items():
        lines = [line, *(f"{part.strip()}." for part in line.split(".")), *line.split()]
        (folder / f"{code}.txt").write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")
    return folder


def old_ids(before: Path, after: Path) -> list[int]:
    """The old id of each new one, by what the pieces are called."""
    full, small = load_tokenizer(before), load_tokenizer(after)
    return [full.get_vocab()[piece] for piece in small.convert_ids_to_tokens(list(range(len(small))))]


def assert_equal_outputs(before: Path, after: Path, language: str) -> None:
    """Logits at the pieces that stay, and all of what feeds them, on text that stays."""
    one, other = load_saved(before).eval(), load_saved(after).eval()
    order = old_ids(before, after)
    assert other.config.vocab_size == len(order) < one.config.vocab_size
    full, small = load_tokenizer(before), load_tokenizer(after)
    lines = [TEXT[language], TEXT[language][:40].rsplit(" ", 1)[0]]
    batch, new = (each(lines, padding=True, return_tensors="pt") for each in (full, small))
    assert torch.equal(torch.tensor(order)[new["input_ids"]], batch["input_ids"])
    with torch.inference_mode():
        wanted = one(**batch, lang_ids=one.lang_ids([language] * 2), output_hidden_states=True)
        found = other(**new, lang_ids=other.lang_ids([language] * 2), output_hidden_states=True)
    real = batch["attention_mask"].bool()
    assert torch.equal(wanted.hidden_states[-1], found.hidden_states[-1])
    torch.testing.assert_close(found.logits[real], wanted.logits[real][:, order], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_on_pieces_that_stay_are_equal(kind: str, text: Path, tmp_path: Path) -> None:
    source = modular(kind, "ForMaskedLM", tmp_path)
    made = trim(source, ["de", "sw"], text=[str(text)], output_dir=tmp_path / "small")
    assert made.languages == ("de_DE", "sw_KE")
    for language in TEXT:
        assert_equal_outputs(source, tmp_path / "small", language)
    model = load_saved(tmp_path / "small")
    assert model.lm_head.decoder.weight is model.get_input_embeddings().weight
    assert not [name for name, each in model.named_parameters() if "en_XX" in name and each.numel()]


@pytest.mark.parametrize("cls", [XmodForMaskedLM, XmodForCausalLM])
def test_an_untied_head_loses_the_same_rows(cls: Any, text: Path, tmp_path: Path) -> None:
    tokenizer, is_decoder = tokenizer_of("unigram"), cls is XmodForCausalLM
    fields = {"vocab_size": len(tokenizer) + 7, "max_position_embeddings": 120, "pad_token_id": 1}
    model = tiny_model(cls, "sdpa", tie_word_embeddings=False, is_decoder=is_decoder, eos_token_id=2, **fields)
    model.save_pretrained(tmp_path / "full")
    save_tokenizer(tokenizer, tmp_path / "full", model.config)
    trim(tmp_path / "full", ["sw", "de"], text=[str(text)], output_dir=tmp_path / "small")
    assert_equal_outputs(tmp_path / "full", tmp_path / "small", "sw_KE")
    small = load_saved(tmp_path / "small")
    assert small.lm_head.decoder.weight is not small.get_input_embeddings().weight
    assert small.lm_head.bias is small.lm_head.decoder.bias
    assert small.languages == ("sw_KE", "de_DE")


def test_ids_in_the_configuration_follow_their_pieces(text: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of("unigram")
    last = len(tokenizer) - 1  # <mask>
    model = tiny_model(XmodForMaskedLM, vocab_size=len(tokenizer), max_position_embeddings=120, eos_token_id=last)
    model.save_pretrained(tmp_path / "full")
    save_tokenizer(tokenizer, tmp_path / "full", model.config)
    trim(tmp_path / "full", ["de"], text=[str(text)], output_dir=tmp_path / "small")
    small = load_saved(tmp_path / "small")
    assert small.config.eos_token_id == load_tokenizer(tmp_path / "small").mask_token_id < last
    assert small.config.pad_token_id == 1


@pytest.mark.parametrize("own", ["trim", "keep"])
def test_a_vocabulary_of_a_language_is_trimmed_or_kept(own: Any, text: Path, tmp_path: Path) -> None:
    shared = tokenizer_of("unigram")
    model: Any = tiny_model(XmodForMaskedLM, vocab_size=len(shared), max_position_embeddings=120)
    its = train_tokenizer({code: [line] * 4 for code, line in LINES.items() if code != "en_XX"}, 300)
    torch.manual_seed(0)
    model.set_vocabulary("sw_KE", its.backend_tokenizer.to_str(), torch.randn(len(its), 32), torch.randn(len(its)))
    model.save_pretrained(tmp_path / "full")
    save_tokenizer(shared, tmp_path / "full", model.config)
    german = tmp_path / "german"
    german.mkdir()
    shutil.copy(text / "de_DE.txt", german)
    there = german if own == "keep" else text  # a vocabulary that stays as it is needs no text
    trim(tmp_path / "full", ["de", "sw"], text=[str(there)], own_vocabularies=own, output_dir=tmp_path / "small")
    with pytest.raises(
        LanguageError, match=r"no text for sw_KE .*, or keep its own vocabulary .*--own-vocabularies keep"
    ):
        trim(tmp_path / "full", ["de", "sw"], text=[str(german)], output_dir=tmp_path / "other")
    one, other = load_saved(tmp_path / "full").eval(), load_saved(tmp_path / "small").eval()
    assert (other.config.vocabularies["sw_KE"] < len(its)) is (own == "trim")
    full, small = (from_json(each.tokenizers["sw_KE"], each.config.vocabularies["sw_KE"]) for each in (one, other))
    order = [full.get_vocab()[piece] for piece in small.convert_ids_to_tokens(list(range(len(small))))]
    batch, new = (each(TEXT["sw_KE"], return_tensors="pt") for each in (full, small))
    assert torch.equal(torch.tensor(order)[new["input_ids"]], batch["input_ids"])
    with torch.inference_mode():
        wanted = one(**batch, lang_ids=one.lang_ids("sw")).logits[..., order]
        found = other(**new, lang_ids=other.lang_ids("sw")).logits
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


def test_the_report_is_true(text: Path, tmp_path: Path) -> None:
    source = modular("unigram", "ForMaskedLM", tmp_path)
    (tmp_path / "dev").mkdir()
    unseen = "Tous les êtres humains naissent libres 漢字"
    (tmp_path / "dev" / "sw.txt").write_text(f"{TEXT['sw_KE']}\n{unseen}\n", encoding="utf-8")
    made = trim(source, ["de", "sw"], text=[str(text)], dev_text=tmp_path / "dev", output_dir=tmp_path / "small")
    record = json.loads((tmp_path / "small" / "trim.json").read_text(encoding="utf-8"))
    for folder, size in ((source, made.before), (tmp_path / "small", made.after)):
        with open_weights(folder) as stored:
            assert size.parameters == sum(stored[name].numel() for name in stored.names)
            assert size.memory == size.parameters * 4
        assert size.weights == (folder / "model.safetensors").stat().st_size
        assert size.pieces == len(load_tokenizer(folder))
    assert (made.before.languages, made.same_languages.languages, made.after.languages) == (3, 2, 2)
    assert made.after.parameters < made.same_languages.parameters < made.before.parameters
    assert record["after"]["pieces"] == made.after.pieces
    assert {reading.same for reading in made.readings.values()} == {1.0}
    assert made.readings["de_DE"].held_out_lines == 0
    assert made.readings["de_DE"].pieces_per_word is None
    reading = made.readings["sw_KE"]
    full, small = (
        [each(line, add_special_tokens=False)["input_ids"] for line in (TEXT["sw_KE"], unseen)]
        for each in (load_tokenizer(source), load_tokenizer(tmp_path / "small"))
    )
    words = len(f"{TEXT['sw_KE']} {unseen}".split())
    assert reading.held_out_words == words
    assert reading.pieces_per_word == (sum(map(len, full)) / words, sum(map(len, small)) / words)
    assert reading.unknown == tuple(sum(ids.count(3) for ids in rows) / sum(map(len, rows)) for rows in (full, small))
    assert reading.held_out_same == 0.5


def test_held_out_lines_are_measured_without_their_pieces(tmp_path: Path) -> None:
    source = modular("unigram", "ForMaskedLM", tmp_path)
    words = sorted({word for line in LINES.values() for word in line.split()})
    (tmp_path / "de.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    made = trim(source, ["de"], text=[str(tmp_path / "de.txt")], output_dir=tmp_path / "small")
    reading = made.readings["de_DE"]
    assert reading.lines == len(words)
    assert 0 < reading.held_out_lines < len(words) / 5
    assert reading.same == 1.0
    assert reading.held_out_same is not None
    assert reading.held_out_same < 1.0
    full, small = load_tokenizer(source), load_tokenizer(tmp_path / "small")
    for word in words:  # in the end, theirs stay too
        assert full.tokenize(word) == small.tokenize(word)


def test_pieces_of_scripts_need_no_text(tmp_path: Path) -> None:
    source = modular("unigram", "ForMaskedLM", tmp_path)
    made = trim(source, ["de", "sw"], scripts=True, output_dir=tmp_path / "small")
    assert made.scripts == ("Latn",)
    assert not made.readings
    full, small = load_tokenizer(source), load_tokenizer(tmp_path / "small")
    for code in ("de_DE", "sw_KE", "en_XX", "fr_XX"):
        assert full.tokenize(LINES[code]) == small.tokenize(LINES[code])
    assert full.tokenize(LINES["ru_RU"]) != small.tokenize(LINES["ru_RU"])


def test_rare_pieces_can_be_left_out(text: Path, tmp_path: Path) -> None:
    source, files = modular("unigram", "ForMaskedLM", tmp_path), [str(text)]
    trim(source, ["de", "sw"], text=files, output_dir=tmp_path / "all")
    made = trim(source, ["de", "sw"], text=files, min_count=6, output_dir=tmp_path / "frequent")
    full, every, frequent = (load_tokenizer(tmp_path / name) for name in ("modular", "all", "frequent"))
    assert set(frequent.get_vocab()) < set(every.get_vocab())
    for code in TEXT:
        lines = list(TextFiles(code, (text / f"{code}.txt",)))
        same = sum(full.tokenize(line) == frequent.tokenize(line) for line in lines) / len(lines)
        assert made.readings[code].same == same < 1


def test_the_most_frequent_pieces_cover_a_share_of_each_text(text: Path, tmp_path: Path) -> None:
    assert covering(np.array([5, 0, 1, 3, 1]), 1.0) == [0, 3, 2, 4]
    assert covering(np.array([5, 0, 1, 3, 1]), 0.8) == [0, 3]
    assert covering(np.array([5, 0, 1, 3, 1]), 0.81) == [0, 3, 2]
    assert covering(np.array([0, 0]), 0.5) == []
    source, files = modular("unigram", "ForMaskedLM", tmp_path), [str(text)]
    full, sizes = load_tokenizer(source), []
    for share in (1.0, 0.9, 0.6):
        folder = tmp_path / str(share)
        made = trim(source, ["de", "sw"], text=files, dev_text=text, coverage=share, output_dir=folder)
        trimmed = load_tokenizer(folder)
        sizes.append(len(trimmed))
        for code in TEXT:
            lines = list(TextFiles(code, (text / f"{code}.txt",)))
            pieces = [piece for line in lines for piece in full.tokenize(line)]
            assert sum(piece in trimmed.get_vocab() for piece in pieces) >= share * len(pieces)
            characters, after = sum(map(len, lines)), sum(len(trimmed.tokenize(line)) for line in lines)
            assert made.readings[code].characters_per_piece == (characters / len(pieces), characters / after)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_a_card_says_what_was_trimmed(text: Path, tmp_path: Path) -> None:
    source = modular("unigram", "ForMaskedLM", tmp_path)
    made = trim(source, ["de", "sw"], text=[str(text)], output_dir=tmp_path / "small")
    card = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["language"] == ["de", "sw"]
    assert f"{made.after.pieces:,} of {made.before.pieces:,} pieces" in card
    assert str(tmp_path) not in card


def test_verbs_of_whole_models_take_a_trimmed_one(text: Path, tmp_path: Path) -> None:
    source, small = modular("unigram", "ForSequenceClassification", tmp_path), tmp_path / "small"
    trim(source, ["de", "sw"], text=[str(text)], output_dir=small)
    rows = [{"text": line, "label": f"LABEL_{number % 2}"} for number, line in enumerate(TEXT.values())]
    test = tmp_path / "de_DE.test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in rows * 3), encoding="utf-8")
    scored = [evaluate(str(each), test, adapter="right").rows for each in (source, small)]
    assert [row.value for row in scored[0]] == pytest.approx([row.value for row in scored[1]])
    found = diff(str(source), str(small))
    assert found is not None
    few = Predictor(small, resident_languages=1)
    assert few([TEXT["sw_KE"]], "sw") == Predictor(small)([TEXT["sw_KE"]], "sw")


def test_a_trimmed_model_is_converted_embedded_and_ranked_like_its_source(text: Path, tmp_path: Path) -> None:
    source, small, there = tmp_path / "source", tmp_path / "small", tmp_path / "fairseq"
    tokenizer = train_tokenizer({code: [line] * 20 for code, line in LINES.items()}, 300, byte_fallback=False)
    model = tiny_model(XmodForMaskedLM, vocab_size=len(tokenizer), max_position_embeddings=82, type_vocab_size=1)
    model.save_pretrained(source)
    save_tokenizer(tokenizer, source, model.config)
    trim(source, ["de", "sw"], text=[str(text)], output_dir=small)
    convert(small, output_dir=there, to="fairseq")
    listed = [line.rsplit(" ", 1)[0] for line in (there / "dict.txt").read_text(encoding="utf-8").splitlines()]
    kept = load_tokenizer(small)
    assert kept.convert_ids_to_tokens(list(range(4, 4 + len(listed)))) == listed
    convert(there, output_dir=tmp_path / "back")
    rows_of = [load_saved(folder).get_input_embeddings().weight for folder in (small, tmp_path / "back")]
    assert torch.equal(*rows_of)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": TEXT[code], "language": code}) + "\n" for code in TEXT))
    vectors = []
    for number, folder in enumerate((source, small)):
        embed(folder, rows, tmp_path / f"{number}.npy")
        vectors.append(np.load(tmp_path / f"{number}.npy"))
    np.testing.assert_allclose(*vectors, atol=1e-6)
    assert donors(small, text / "sw_KE.txt", "mt").candidates


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigurationError, "--text, --scripts"),
        ({"text": "text", "languages": "en,de"}, LanguageError, "no text for en_XX"),
        ({"text": "text", "min_count": 0}, ConfigurationError, "min_count must be at least 1"),
        ({"text": "text", "languages": "xh"}, LanguageError, "xh"),
        ({"text": "nowhere"}, DataError, "nowhere"),
        ({"text": "text/empty.txt", "languages": "de"}, DataError, "No text for de_DE"),
        ({"text": "text", "output_dir": "text"}, ConfigurationError, "text"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    options: dict[str, Any], error: type[Exception], message: str, text: Path, tmp_path: Path
) -> None:
    source = modular("unigram", "ForMaskedLM", tmp_path)
    (text / "empty.txt").write_text("\n")
    if options.get("text") != "text/empty.txt":
        (text / "empty.txt").unlink()
    there = sorted(tmp_path.rglob("*"))
    given: dict[str, Any] = {"languages": "de,sw", "output_dir": "small", **options}
    given |= {name: str(tmp_path / given[name]) for name in ("text", "output_dir") if name in given}
    with pytest.raises(error, match=message):
        trim(source, **given)
    assert sorted(tmp_path.rglob("*")) == there


def test_a_trimmed_model_goes_on(text: Path, tmp_path: Path) -> None:
    """Predictions, packs, extension and fine-tuning of a trimmed model; packs go where the vocabulary is the same."""
    source = modular("unigram", "ForMaskedLM", tmp_path)
    small, rows = tmp_path / "small", tmp_path / "rows.jsonl"
    command = ["trim", "--model", source, "--languages", "de,sw", "--text", text, "--output-dir", small]
    run = CliRunner().invoke(cli.app, [*map(str, command)])
    assert run.exit_code == 0, run.output
    assert "pieces a word" in run.output.replace("\n", " ")
    assert (small / "trim.json").is_file()
    labelled = [{"text": TEXT[code], "label": code, "language": code} for code in TEXT] * 4
    rows.write_text("".join(json.dumps(row) + "\n" for row in labelled), encoding="utf-8")
    few: dict[str, Any] = {"max_steps": 1, "batch_size": 4, "log_every": 1}
    finetune(small, train=rows, language="de", output_dir=tmp_path / "topic", **few)
    trim(tmp_path / "topic", "sw", text=[str(text)], output_dir=tmp_path / "topic-sw")
    texts = [{"text": TEXT["sw_KE"], "language": "sw"}]
    one, other = (Predictor(tmp_path / name)(texts)[0] for name in ("topic", "topic-sw"))
    assert one["label"] == other["label"]
    assert one["score"] == pytest.approx(other["score"], abs=1e-6)
    assert fill_mask(small, "Alle <mask> sind frei", language="de")
    pack_save(small, "de", output_dir=tmp_path / "pack")
    pack_install(tmp_path / "pack", tmp_path / "topic", language="als", output_dir=tmp_path / "installed")
    for wrong in (source, tmp_path / "topic-sw"):  # another vocabulary
        with pytest.raises(PackError, match="word embeddings"):
            pack_install(tmp_path / "pack", wrong, language="als", output_dir=tmp_path / "refused")
    extend(small, "mt", text / "sw_KE.txt", output_dir=tmp_path / "more", block_size=16, dev_fraction=0.5, **few)
    assert load_saved(tmp_path / "more").languages == ("de_DE", "sw_KE", "mt")
    with pytest.raises(ConfigurationError, match="--overwrite"):
        trim(source, "de", text=[str(text)], output_dir=small)
    trim(source, "de", text=[str(text)], output_dir=small, overwrite=True)
    assert load_saved(small).languages == ("de_DE",)
