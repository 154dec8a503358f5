"""Donors: what is measured, what decides, what is left as it was, and what is refused."""

import copy
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from tests.conftest import LANGUAGES, sentence
from tests.support import assert_same_state
from xmodular import XmodForMaskedLM, XmodModel, cli, donors
from xmodular.donor_ranking import trials
from xmodular.donor_ranking.finding import _averages
from xmodular.donor_ranking.ranking import Candidate
from xmodular.donor_ranking.text_sample import sample_of
from xmodular.donor_ranking.trials import Trials, bits_per_character
from xmodular.errors import ConfigurationError, DataError, LanguageError, XmodularError
from xmodular.modeling.language_changes import adapters_by_layer
from xmodular.text import MaskedLMCollator, TextFiles, measured_text
from xmodular.vocabulary import train_tokenizer

SAMPLE = {"sample_bytes": 3000, "block_size": 16}


def written(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def swiss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """German with other letters here and there."""
    draw = random.Random(5)
    lines = [sentence("de_DE", draw).replace("au", "uu").replace("ä", "e") for _ in range(200)]
    return written(tmp_path_factory.mktemp("swiss"), "gsw.txt", lines)


@pytest.fixture
def model(base_run) -> XmodForMaskedLM:
    """The base with adapters that differ far more than its few steps made them."""
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for adapters in adapters_by_layer(model):
            for parameter in adapters.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def by_hand(model, tokenizer, path: Path, code: str, *, size: int = 3000, block_size: int = 16) -> float:
    """Bits per character of a text's first lines, from whole logits of one block after the other."""
    text = measured_text(TextFiles("x", (path,), most=size), tokenizer, block_size, "lines")
    collator = MaskedLMCollator(
        special_ids=tokenizer.all_special_ids,
        mask_id=tokenizer.mask_token_id,
        pad_id=tokenizer.pad_token_id,
        vocab_size=len(tokenizer),
        probability=0.15,
        seed=0,
    )
    chosen, nats, predicted = collator.choose(text.blocks), 0.0, 0
    for number, block in enumerate(text.blocks):
        if not chosen[number].any():
            continue
        made = collator([{"input_ids": block, "lang_id": 0, "draw": number, "chosen": chosen[number]}])
        with torch.no_grad():
            logits = model(
                input_ids=made["input_ids"], attention_mask=made["attention_mask"], lang_ids=model.lang_ids(code)
            ).logits[0]
        labels = made["labels"][0]
        nats += float(cross_entropy(logits[labels != -100].double(), labels[labels != -100], reduction="sum"))
        predicted += int((labels != -100).sum())
    known = nats / predicted * text.ordinary.sum() + text.untold_bytes.sum() * math.log(256)
    return float(known / math.log(2) / text.characters.sum())


def test_every_language_is_measured_with_the_same_masks(model, tokenizer, swiss):
    found = donors(model, swiss, "gsw", **SAMPLE)
    singles = {each.init_from: each for each in found.candidates if len(each.shares) == 1}
    assert set(singles) == set(LANGUAGES)
    expected = {code: by_hand(model, tokenizer, swiss, code) for code in LANGUAGES}
    for code, candidate in singles.items():
        assert candidate.bits_per_character == pytest.approx(expected[code], rel=1e-5)
    assert max(expected.values()) - min(expected.values()) > 0.02  # there was something to tell apart
    assert found.reader == min(expected, key=expected.get)
    order = [code for each in found.candidates for code in [each.init_from] if code in expected]
    assert order == sorted(expected, key=expected.get)
    assert found.measured


def test_an_average_is_measured_as_the_model_that_has_it(model, tokenizer, swiss):
    found = donors(model, swiss, "gsw", **SAMPLE)
    averages = [each for each in found.candidates if len(each.shares) > 1]
    assert {len(each.shares) for each in averages} == {2, 3}
    for candidate in averages:
        assert sum(candidate.shares.values()) == pytest.approx(1)
        added, again = copy.deepcopy(model), copy.deepcopy(model)
        added.add_language("gsw")
        with torch.no_grad():
            for adapters in adapters_by_layer(added):
                for name, parameter in adapters["gsw"].named_parameters():
                    parts = [adapters[code].get_parameter(name) * share for code, share in candidate.shares.items()]
                    parameter.copy_(torch.stack(parts).sum(0))
        assert candidate.bits_per_character == pytest.approx(by_hand(added.eval(), tokenizer, swiss, "gsw"), rel=1e-5)
        # What `extend` is told is what was measured.
        pairs = [each.partition("=") for each in candidate.init_from.split(",")]
        again.add_language("gsw", {name: float(share or 1) for name, _, share in pairs})
        for one, other in zip(adapters_by_layer(again), adapters_by_layer(added), strict=True):
            for name, value in other["gsw"].state_dict().items():
                torch.testing.assert_close(one["gsw"].state_dict()[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_before(model, swiss, monkeypatch, fails):
    model.set_default_language("sw")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config, state = model.config.to_dict(), torch.random.get_rng_state()
    if fails:
        measured = trials.block_statistics
        monkeypatch.setattr(
            trials,
            "block_statistics",
            lambda given, *args, **more: 1 / 0 if len(given.languages) > 3 else measured(given, *args, **more),
        )
        with pytest.raises(ZeroDivisionError):
            donors(model, swiss, **SAMPLE)
    else:
        donors(model, swiss, **SAMPLE)
    assert_same_state(model.state_dict(), before)
    assert model.config.to_dict() == config
    assert fails or torch.equal(torch.random.get_rng_state(), state)


def test_a_first_part_and_the_rest_are_the_whole(model, tokenizer, swiss):
    sample = sample_of(TextFiles("gsw", (swiss,)), tokenizer, size=3000, block_size=16)
    made = Trials(model, sample.text, tokenizer, probability=0.15, batch_size=5, seed=0)
    assert 0 < len(made.first) < len(made.rest)
    assert sorted([*made.first, *made.rest]) == list(range(len(sample.text.blocks)))
    parts = made.sums(["de_DE"], made.first)["de_DE"] + made.sums(["de_DE"], made.rest)["de_DE"]
    assert bits_per_character(parts) == pytest.approx(by_hand(model, tokenizer, swiss, "de_DE"), rel=1e-5)


def test_equal_adapters_are_told_apart_by_kinship(model, swiss):
    """As in an encoder that was just made modular: every adapter gives the same states."""
    for adapters in adapters_by_layer(model):
        for code in LANGUAGES:
            adapters[code].load_state_dict(adapters["sw_KE"].state_dict())
    found = donors(model, swiss, "gsw", **SAMPLE)
    assert found.reader == found.init_from == "de_DE"
    assert "equal" in " ".join(found.why)
    assert donors(model, swiss, "zu", **SAMPLE).reader == "sw_KE"


def test_text_of_a_language_of_the_model(corpus, base_run, tmp_path):
    found = donors(base_run.output_dir, corpus / "text", "de", **SAMPLE)
    best = next(each for each in found.candidates if each.init_from == "de_DE")
    assert best.evidence.closeness.groups > 50
    assert best.evidence.rank == 0
    bare = XmodModel.from_pretrained(base_run.output_dir)
    assert donors(bare, corpus / "text", "de", **SAMPLE).reader == "de_DE"


def test_without_a_head_kinship_decides_and_the_answer_says_so(base_run, swiss):
    found = donors(XmodModel.from_pretrained(base_run.output_dir), swiss, "gsw", **SAMPLE)
    assert not found.measured
    assert [each.init_from for each in found.candidates] == ["de_DE", "en_XX", "sw_KE"]
    assert all(each.bits_per_character is None for each in found.candidates)
    assert found.why[0].startswith("Nothing was measured")
    assert "XmodModel" in found.why[0]


def test_a_relative_in_another_script_comes_after_languages_in_the_text_s_own(base_run, swiss, tmp_path):
    model = XmodModel.from_pretrained(base_run.output_dir)
    model.rename_language("sw", "yi_DE")
    assert [each.init_from for each in donors(model, swiss, "gsw", **SAMPLE).candidates] == ["de_DE", "en_XX", "yi_DE"]
    path = written(tmp_path, "yi.txt", ["דאָס הויז", "דער טייך"] * 20)
    assert donors(model, path, "gsw", **SAMPLE).reader == "yi_DE"


def test_one_language(base_run, swiss):
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir, languages=["sw_KE"])
    found = donors(model, swiss, "gsw", **SAMPLE)
    assert [each.init_from for each in found.candidates] == ["sw_KE"]
    assert found.reader == found.init_from == "sw_KE"


def test_a_text_of_which_nothing_is_known(base_run, tmp_path):
    letters = str.maketrans("abcdefghijklmnopqrstuvwxyz", "αβγδεζηθικλμνξοπρστυφχψωάέ")
    draw = random.Random(5)
    path = written(tmp_path, "el.txt", [sentence("en_XX", draw).translate(letters) for _ in range(50)])
    found = donors(base_run.output_dir, path, **SAMPLE)
    assert all(each.evidence is None or each.evidence.script < 0.1 for each in found.candidates)
    assert "--new-vocabulary" in " ".join(found.why)


def test_a_text_that_is_unknown_pieces_throughout(base_run, tmp_path):
    """Every language loses all of it, so kinship alone decides who reads it, and nothing is a good start."""
    path = written(tmp_path, "ta.txt", ["தமிழ் மொழி", "உலகம்"] * 20)
    found = donors(base_run.output_dir, path, "gsw", **SAMPLE)
    assert found.candidates[0].shares == {}
    bits = [each.bits for each in found.candidates[1:]]
    assert max(bits) - min(bits) < 0.005
    assert found.reader == "de_DE"
    assert found.init_from == "neutral"
    assert "better than at random" in found.why[0]
    json.dumps(found.record())


def test_a_text_of_one_word(base_run, tmp_path):
    found = donors(base_run.output_dir, written(tmp_path, "x.txt", ["Haus"]), **SAMPLE)
    assert all(math.isfinite(each.bits) for each in found.candidates)


def test_one_endless_line_is_cut(base_run, swiss, tmp_path):
    line = " ".join(swiss.read_text(encoding="utf-8").split())
    found = donors(base_run.output_dir, written(tmp_path, "x.txt", [line * 5]), **SAMPLE)
    assert 2900 < found.candidates[0].characters <= 3000


def test_every_file_gives_its_share(base_run, swiss, tmp_path):
    lines = swiss.read_text(encoding="utf-8").splitlines()
    written(tmp_path, "gsw.a.txt", ["zzz qqq"] * 3 + ["xyz"] * 2000)
    written(tmp_path, "gsw.b.txt", lines)
    text = TextFiles("gsw", (tmp_path / "gsw.a.txt", tmp_path / "gsw.b.txt"))
    sample = sample_of(text, base_run.tokenizer, size=3000, block_size=16)
    assert sum(len(line) for line in sample.lines if line in lines) > 1300
    assert len(sample.text.blocks) == len(sample.text.characters) == len(sample.text.untold_bytes)


def test_an_unknown_name_of_a_language(base_run, swiss):
    found = donors(base_run.output_dir, swiss, "nonsense", **SAMPLE)
    assert "nonsense" in found.why[-1]
    assert "nonsense" in donors(XmodModel.from_pretrained(base_run.output_dir), swiss, "nonsense", **SAMPLE).why[-1]


def test_own_vocabularies_are_left_out(base_run, swiss):
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    own = train_tokenizer({"a": [sentence("sw_KE", random.Random(1)) for _ in range(50)]}, 60)
    model.set_vocabulary("sw_KE", own, torch.randn(len(own), model.config.hidden_size))
    found = donors(model, swiss, "gsw", **SAMPLE)
    assert {code for each in found.candidates for code in each.shares} == {"de_DE", "en_XX"}
    with pytest.raises(ConfigurationError, match="sw_KE"):
        donors(model, swiss, "gsw", candidates="de,sw", **SAMPLE)


def test_candidates_pieces_and_the_file(base_run, corpus, swiss, tmp_path):
    path = tmp_path / "donors.json"
    options = {**SAMPLE, "reference": corpus / "text", "output": path}
    found = donors(base_run.output_dir, swiss, "gsw", candidates="de,sw", **options)
    pieces = {each.init_from: each.evidence.pieces for each in found.candidates if each.evidence}
    assert set(pieces) == {"de_DE", "sw_KE"}
    assert 1 >= pieces["de_DE"] > pieces["sw_KE"] > 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record == json.loads(json.dumps(found.record()))
    assert record["init_from"] == found.init_from
    assert record["candidates"][0]["bits_per_character"] > 0
    with pytest.raises(ConfigurationError, match="--overwrite"):
        donors(base_run.output_dir, swiss, **options)
    donors(base_run.output_dir, swiss, **options, overwrite=True)
    assert json.loads(path.read_text(encoding="utf-8"))["language"] is None
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not a ranking"):
        donors(base_run.output_dir, swiss, **options, overwrite=True)


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"model": "nowhere"}, XmodularError, "nowhere"),
        ({"text": "nowhere.txt"}, DataError, "nowhere.txt"),
        ({"text": __file__}, DataError, "not a text file"),
        ({"text": "corpus", "language": None}, DataError, "--language"),
        ({"text": "corpus", "language": "el"}, LanguageError, "el"),
        ({"text": "empty"}, DataError, "No text"),
        ({"candidates": "klingon"}, LanguageError, "klingon"),
        ({"most": 0}, ConfigurationError, "most"),
        ({"sample_bytes": 3}, ConfigurationError, "sample_bytes"),
        ({"mask_probability": 0.0}, ConfigurationError, "mask_probability"),
        ({"output": "ranking.txt"}, ConfigurationError, "ranking.txt"),
        ({"reference": "nowhere"}, DataError, "nowhere"),
    ],
)
def test_refusals(base_run, corpus, swiss, tmp_path, options, error, part):
    given = {"model": base_run.output_dir, "text": swiss, "language": "gsw", **SAMPLE, **options}
    if given["text"] == "corpus":
        given["text"] = corpus / "text"
    if given["text"] == "empty":
        given["text"] = written(tmp_path, "gsw.txt", ["", " "])
    with pytest.raises(error, match=part):
        donors(given.pop("model"), given.pop("text"), given.pop("language"), **given)


def test_the_command_shows_the_ranking_and_the_reasons(base_run, swiss, tmp_path):
    words = ["donors", "--model", str(base_run.output_dir), "--text", str(swiss), "--language", "gsw"]
    run = CliRunner().invoke(cli.app, [*words, "--output", str(tmp_path / "d.json"), "--sample-bytes", "3000"])
    assert run.exit_code == 0
    assert "Donors for gsw" in run.stdout
    record = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    assert f"--init-from {record['init_from']}" in " ".join(run.stdout.split())
    again = CliRunner().invoke(cli.app, [*words, "--output", str(tmp_path / "d.json")])
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_a_model_that_cannot_be_averaged_is_refused_before_it_is_measured(base_run, swiss, monkeypatch):
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir, resident_languages=1)
    monkeypatch.setattr(trials, "block_statistics", None)
    with pytest.raises(ConfigurationError, match="give its folder"):
        donors(model, swiss, "gsw", **SAMPLE)


def test_a_mixture_is_no_language_alone():
    """One that is half a bit worse than the best gets a share below one per cent, which is none."""

    class Still:
        first = rest = np.arange(3)

        def sums_of_average(self, shares, numbers):
            return np.ones(7)

    singles = [Candidate({code: 1.0}, bits, 9, None) for code, bits in (("ru", 1.0), ("uk", 1.1), ("pl", 1.6))]
    found = [each.init_from for each in _averages(Still(), singles, 3)]
    assert found == ["ru,uk", "ru=0.731,uk=0.269", "ru,uk,pl"]
