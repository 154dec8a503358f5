"""Pretraining that goes on with a model: what moves, the head of an encoder without one, what contradicts the model."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import LANGUAGES, MINIATURE
from tests.support import tiny_model
from xmodular import XmodForMaskedLM, XmodModel, diff, extend, pretrain, upcycle
from xmodular.comparison import Certificate
from xmodular.errors import ConfigurationError, LanguageError
from xmodular.tasks import load_saved
from xmodular.text import LanguageBlocks, LineCounts
from xmodular.training import bases
from xmodular.training.trainer import RoutedTrainer

QUICK = {"block_size": 32, "batch_size": 8, "dev_fraction": 0.1, "learning_rate": 3e-3, "max_steps": 6}
# A new head for so many steps, then adapters that add nothing yet: they move little in so few.
HEADED = {**QUICK, "languages": ("de", "en"), "trainable": "adapters", "head_steps": 8, "learning_rate": 3e-2}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def moved(one: Path, other: Path) -> set[str]:
    """Names of the weights in both files that are not the same, bit by bit."""
    mine, its = ({name.removeprefix("roberta."): t for name, t in weights(each).items()} for each in (one, other))
    shared = mine.keys() & its.keys()
    assert shared
    return {name for name in shared if not torch.equal(mine[name].view(torch.int32), its[name].view(torch.int32))}


@pytest.fixture(scope="module")
def encoder(base_run, tmp_path_factory) -> Path:
    """A bare encoder with adapters that add nothing, one of them of a language without text."""
    folder = tmp_path_factory.mktemp("upcycled") / "encoder"
    made = upcycle(base_run.output_dir, [*LANGUAGES, "mt"], output_dir=folder, head=False)
    assert made.architecture == "XmodModel"
    model = XmodModel.from_pretrained(folder)
    for code in LANGUAGES:  # nothing is learned of the others' adapters yet
        for layer in model.encoder.layer:
            torch.nn.init.zeros_(layer.output.adapter_modules[code].dense2.weight)
            torch.nn.init.zeros_(layer.output.adapter_modules[code].dense2.bias)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def headed(encoder, corpus, tmp_path_factory):
    """The encoder with a head that was trained first, and then the adapters of two languages."""
    return pretrain(
        corpus / "text",
        model=encoder,
        output_dir=tmp_path_factory.mktemp("headed") / "run",
        **HEADED,
    )


def test_adapters_of_the_text_move_and_nothing_else(base_run, corpus, tmp_path, capsys):
    run = pretrain(
        corpus / "text",
        model=base_run.output_dir,
        languages=("German", "en"),
        output_dir=tmp_path,
        trainable="adapters",
        **QUICK,
    )
    assert run.model.languages == LANGUAGES
    names = moved(base_run.output_dir, tmp_path)
    assert {name.split(".adapter_modules.")[1].split(".")[0] for name in names} == {"de_DE", "en_XX"}
    # Validated before on the same text as when the base was made, and after.
    validation = base_run.metrics["validation"]
    assert run.metrics["before"] == {code: validation[code] for code in ("de_DE", "en_XX")}
    for code, values in run.metrics["validation"].items():
        assert values["loss"] < validation[code]["loss"]
        assert values["masked_tokens"] == validation[code]["masked_tokens"]
    certificate = Certificate.from_json(tmp_path / "certificate.json")
    assert certificate.ok
    assert certificate.changed == {"de_DE", "en_XX"}
    said = " ".join(capsys.readouterr().err.split())
    assert "Changed: de_DE, en_XX" in said or "Changed: en_XX, de_DE" in said
    assert "sw_KE (certificate.json)" in said


@pytest.mark.parametrize(
    ("trainable", "parts"),
    [
        ("all", {"embeddings", "encoder", "lm head", "en_XX"}),
        ("head", {"lm head"}),
        ("shared", {"encoder", "lm head"}),
        ("all-but-adapters", {"embeddings", "encoder", "lm head"}),
    ],
)
def test_what_trains_is_what_moves(base_run, corpus, tmp_path, trainable, parts):
    pretrain(
        corpus / "text",
        model=base_run.output_dir,
        languages=("en",),
        output_dir=tmp_path,
        trainable=trainable,
        **{**QUICK, "max_steps": 2},
    )
    assert diff(base_run.output_dir, tmp_path).changed == parts


def test_before_and_after_are_of_one_precision(base_run, corpus, tmp_path):
    options = {**QUICK, "learning_rate": 1e-12, "weight_decay": 0.0, "max_steps": 1}
    run = pretrain(corpus / "text", model=base_run.output_dir, output_dir=tmp_path, precision="bf16", **options)
    for code, values in run.metrics["validation"].items():
        assert values["loss"] == pytest.approx(run.metrics["before"][code]["loss"], rel=1e-6)


def test_a_causal_model_goes_on_as_one(corpus, base_run, tmp_path):
    options = {**QUICK, "max_steps": 2}
    pretrain(
        corpus / "text",
        output_dir=tmp_path / "base",
        tokenizer=base_run.output_dir,
        preset="tiny",
        overrides=MINIATURE,
        objective="clm",
        **options,
    )
    run = pretrain(corpus / "text", model=tmp_path / "base", output_dir=tmp_path / "more", **options)
    assert type(run.model).__name__ == "XmodForCausalLM"
    assert run.metrics["validation"]["de_DE"]["loss"] < run.metrics["before"]["de_DE"]["loss"]


def test_an_encoder_gets_a_head_that_trains_first(encoder, headed):
    folder = headed.output_dir
    assert not moved(encoder, folder / "head")
    names = moved(encoder, folder)
    assert names
    assert all(".adapter_modules.de_DE." in name or ".adapter_modules.en_XX." in name for name in names)
    assert not {name for name in moved(folder / "head", folder) if name.startswith("lm_head.")}
    certificate = Certificate.from_json(folder / "certificate.json")
    assert certificate.ok
    assert certificate.added == {"lm head"}
    assert {"mt", "sw_KE", "embeddings", "encoder"} <= certificate.identical
    # What is "before" the second part is what the first reached.
    first = json.loads((folder / "head" / "metrics.json").read_text())
    assert first["validation"] == headed.metrics["before"]
    for code in ("de_DE", "en_XX"):
        # Far better than chance from the first step, as it knows the frequencies; the encoder hardly knows more.
        assert first["before"][code]["loss"] < math.log(headed.model.config.vocab_size) - 1
        assert first["validation"][code]["loss"] == pytest.approx(first["before"][code]["loss"], abs=0.02)
        assert first["validation"][code]["loss"] != first["before"][code]["loss"]
        assert headed.metrics["validation"][code]["loss"] != headed.metrics["before"][code]["loss"]
    again = load_saved(folder)
    assert isinstance(again, XmodForMaskedLM)
    assert again.lm_head.decoder.weight is again.get_input_embeddings().weight


def test_a_new_head_starts_from_the_frequencies_of_pieces():
    model = tiny_model(XmodModel, vocab_size=60)
    draw = np.random.default_rng(0)
    blocks = [
        LanguageBlocks(code, draw.integers(low, 60, (40, 16)), 640, LineCounts(), 0, np.full(40, 16))
        for code, low in (("a", 5), ("b", 30))
    ]
    padded = [replace(each, blocks=np.pad(each.blocks, ((0, 0), (1, 9)), constant_values=1)) for each in blocks]
    shares = bases.piece_shares(padded, {"a": 0.75, "b": 0.25}, 60, special=[0, 1, 2])
    for piece in (1, 7, 33):  # padding, which is never predicted, counts as if it were not there
        counts = [(np.count_nonzero(each.blocks == piece) + 1) / (each.blocks.size + 60) for each in blocks]
        assert shares[piece].item() == pytest.approx(0.75 * counts[0] + 0.25 * counts[1])
    assert shares.sum().item() == pytest.approx(1)
    words = model.embeddings.word_embeddings.weight.detach().clone()
    torch.nn.init.zeros_(model.embeddings.word_embeddings.weight)  # so that the states say nothing of pieces
    headed = bases.with_new_head(model, shares).eval()
    ids = torch.tensor([[0, 5, 6, 2]])
    found = headed(ids, lang_ids=torch.tensor([1])).logits.softmax(-1)
    torch.testing.assert_close(found, shares.float().expand_as(found), atol=1e-6, rtol=1e-5)
    assert headed.lm_head.decoder.weight is headed.get_input_embeddings().weight
    assert not headed.get_input_embeddings().weight.is_meta
    assert words.shape == headed.get_input_embeddings().weight.shape


def test_extend_goes_on_from_there(encoder, headed, corpus, tmp_path):
    text = tmp_path / "gsw.txt"
    text.write_text((corpus / "text" / "de_DE.made.txt").read_text().swapcase())
    with pytest.raises(ConfigurationError, match=r"xmodular pretrain --model \S+ --text <folder> --trainable head"):
        extend(encoder, "gsw", text, output_dir=tmp_path / "no")
    run = extend(headed.output_dir, "gsw", text, output_dir=tmp_path / "yes", init_from="neutral", **QUICK)
    # It starts where the languages are whose adapters add nothing either.
    assert run.metrics["start"] == run.metrics["existing"]["mt"] == run.metrics["existing"]["sw_KE"]
    assert run.metrics["start"] != run.metrics["existing"]["de_DE"]
    assert run.metrics["after"]["loss"] < run.metrics["start"]["loss"]
    assert diff(headed.output_dir, run.output_dir, allow=["gsw"]).ok
    assert "zeros" in (run.output_dir / "pack" / "README.md").read_text()
    with pytest.raises(ConfigurationError, match="cannot be combined"):
        extend(headed.output_dir, "gsw", text, output_dir=tmp_path / "no", init_from=("neutral", "de"))


class Stop(Exception):
    pass


@pytest.mark.parametrize("after", [5, 12], ids=["in the head", "in the rest"])
def test_a_broken_run_goes_on_exactly(encoder, corpus, headed, tmp_path, monkeypatch, after):
    """`headed` again with checkpoints, stopped in a step of its head or of the rest, and started once more."""
    steps = []
    whole = RoutedTrainer.training_step

    def step(*arguments, **more):
        steps.append(1)
        if len(steps) == after:
            raise Stop
        return whole(*arguments, **more)

    def run():
        return pretrain(
            corpus / "text",
            model=encoder,
            output_dir=tmp_path / "run",
            save_every=2,
            **HEADED,
        )

    monkeypatch.setattr(RoutedTrainer, "training_step", step)
    with pytest.raises(Stop):
        run()
    again = run()
    assert len(steps) < 8 + 6 + 5  # not from the start
    assert not moved(headed.output_dir, tmp_path / "run")
    assert not moved(headed.output_dir / "head", tmp_path / "run" / "head")
    assert again.metrics == headed.metrics
    for name in ("log.jsonl", "head/log.jsonl", "head/metrics.json"):
        assert (tmp_path / "run" / name).read_text() == (headed.output_dir / name).read_text()


def test_a_model_object_stays_as_it_is(encoder, headed, corpus, tmp_path):
    """The run of `headed`, from an object; it goes on with no other object."""
    model = XmodModel.from_pretrained(encoder)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options = {**HEADED, "save_every": 3}
    run = pretrain(corpus / "text", model=model, output_dir=tmp_path / "run", **options)
    assert not moved(headed.output_dir, tmp_path / "run")
    assert run.metrics == headed.metrics
    assert type(model) is XmodModel
    assert model.pooler is not None
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    (tmp_path / "run" / "options.json").unlink()
    with torch.no_grad():
        model.embeddings.LayerNorm.bias += 1
    with pytest.raises(ConfigurationError, match="weights"):
        pretrain(corpus / "text", model=model, output_dir=tmp_path / "run", **options)


def test_a_head_of_another_run_is_not_taken(encoder, corpus, headed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(headed.output_dir, folder)
    pretrain(corpus / "text", model=encoder, output_dir=folder, overwrite=True, **{**HEADED, "head_steps": 2})
    assert json.loads((folder / "head" / "metrics.json").read_text())["steps"] == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"preset": "tiny"}, "--preset tiny"),
        ({"vocab_size": 300}, "--vocab-size 300"),
        ({"overrides": {"hidden_size": 48}}, "hidden_size to 48.* has 32"),
        ({"overrides": {"hidden_dropout_prob": 1.5}}, "hidden_dropout_prob"),
        ({"shared": True}, "--shared"),
        ({"byte_fallback": True}, "--byte-fallback"),
        ({"objective": "clm"}, "--objective clm"),
        ({"trainable": "head", "head_steps": 4}, "set --max-steps instead"),
        ({"head_steps": -1}, "head_steps"),
    ],
)
def test_what_contradicts_the_model_is_refused(base_run, corpus, tmp_path, options, named):
    with pytest.raises(ConfigurationError, match=named):
        pretrain(corpus / "text", model=base_run.output_dir, output_dir=tmp_path / "run", **{**QUICK, **options})
    assert not (tmp_path / "run").exists()


def test_another_tokenizer_is_refused_and_the_same_is_not(base_run, corpus, tmp_path):
    other = pretrain(
        *(corpus / "text",), output_dir=tmp_path / "other", vocab_size=150, preset="tiny", overrides=MINIATURE, **QUICK
    )
    options = {**QUICK, "model": base_run.output_dir, "max_steps": 1}
    with pytest.raises(ConfigurationError, match="not the tokenizer of"):
        pretrain(corpus / "text", output_dir=tmp_path / "run", tokenizer=other.output_dir, **options)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base_run.output_dir / name, copy)
    pretrain(corpus / "text", output_dir=tmp_path / "run", tokenizer=copy, **options)


def test_dropout_may_change(base_run, corpus, tmp_path):
    run = pretrain(
        corpus / "text",
        model=base_run.output_dir,
        output_dir=tmp_path,
        overrides={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "hidden_size": 32},
        **{**QUICK, "max_steps": 1},
    )
    assert base_run.model.config.hidden_dropout_prob > 0
    assert run.model.config.hidden_dropout_prob == 0
    assert {module.p for module in run.model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}


@pytest.mark.parametrize("options", [{"trainable": "adapters"}, {"head_steps": 3}])
def test_from_scratch_everything_trains(corpus, tmp_path, options):
    with pytest.raises(ConfigurationError, match="needs --model"):
        pretrain(corpus / "text", output_dir=tmp_path, preset="tiny", **options, **QUICK)


def test_text_of_a_language_that_the_model_lacks(base_run, corpus, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    shutil.copy(corpus / "text" / "de_DE.made.txt", text / "de.txt")
    shutil.copy(corpus / "text" / "en_XX.made.txt", text / "mt.txt")
    options = {**QUICK, "model": base_run.output_dir, "max_steps": 1}
    with pytest.raises(LanguageError, match=r"has no mt.*xmodular extend.*xmodular upcycle .*--languages \S*sw_KE,mt"):
        pretrain(text, output_dir=tmp_path / "run", **options)
    run = pretrain(text, output_dir=tmp_path / "run", languages=("de",), **options)
    assert set(run.metrics["validation"]) == {"de_DE"}


def test_a_vocabulary_of_its_own_is_refused(base_run, corpus, tmp_path):
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    model.set_vocabulary("sw", base_run.tokenizer, model.get_input_embeddings().weight.detach())
    model.save_pretrained(tmp_path / "model")
    base_run.tokenizer.save_pretrained(tmp_path / "model")
    options = {**QUICK, "model": tmp_path / "model", "max_steps": 1}
    with pytest.raises(ConfigurationError, match=r"sw_KE of .* has its own vocabulary"):
        pretrain(corpus / "text", output_dir=tmp_path / "run", **options)
    run = pretrain(corpus / "text", output_dir=tmp_path / "run", languages=("de", "en"), **options)
    assert "sw_KE" in Certificate.from_json(run.output_dir / "certificate.json").identical


def test_an_encoder_needs_a_head(encoder, topic_run, corpus, tmp_path):
    for options in ({}, {"trainable": "adapters"}):
        with pytest.raises(ConfigurationError, match="--head-steps 500"):
            pretrain(corpus / "text", model=encoder, output_dir=tmp_path / "run", **options, **QUICK)
    with pytest.raises(ConfigurationError, match="untrained"):
        pretrain(
            corpus / "text", model=encoder, output_dir=tmp_path / "run", trainable="adapters", head_steps=0, **QUICK
        )
    with pytest.raises(ConfigurationError, match="XmodForSequenceClassification"):
        pretrain(corpus / "text", model=topic_run.output_dir, output_dir=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()
