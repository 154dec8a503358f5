"""Pretraining: what a run leaves behind, resuming, accumulation, errors before work."""

import importlib.util
import json
import math
import shutil

import numpy as np
import pytest
import torch

from tests.conftest import LANGUAGES, MINIATURE
from xmodular import XmodForCausalLM, XmodForMaskedLM, evaluate
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.options import PretrainOptions, build
from xmodular.text import TextFiles
from xmodular.training import pretrain
from xmodular.training.optimising import training_arguments
from xmodular.training.trainer import RoutedTrainer

QUICK = {"preset": "tiny", "block_size": 32, "batch_size": 8, "dev_fraction": 0.1, "learning_rate": 3e-3}


def weights(path):
    return XmodForMaskedLM.from_pretrained(path).state_dict()


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def kept_blocks(folder, name):
    """The blocks of 32 tokens that a run kept, by language."""
    paths = (folder / "blocks").glob(f"{name}-*/blocks.bin")
    return [np.fromfile(path, np.uint16).astype(np.int64).reshape(-1, 32) for path in paths]


def test_a_run_is_complete(base_run, corpus):
    folder = base_run.output_dir
    assert base_run.model.languages == LANGUAGES
    assert_equal_weights(weights(folder), base_run.model.state_dict())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["validation"]) == set(LANGUAGES)
    assert metrics["steps"] == 6
    assert all(values["masked_tokens"] > 0 for values in metrics["validation"].values())
    options = json.loads((folder / "options.json").read_text())
    assert options["text"] == str(corpus / "text")
    assert options["max_steps"] == 6
    assert not list(folder.glob(".writing*"))


def test_training_learns(corpus, base_run, tmp_path):
    run = pretrain(
        corpus / "text", tokenizer=base_run.output_dir, output_dir=tmp_path, overrides=MINIATURE, max_steps=90, **QUICK
    )
    for language, before in base_run.metrics["validation"].items():
        assert run.metrics["validation"][language]["loss"] < before["loss"] - 0.5


def test_a_finished_run_can_be_read_again(corpus, base_run, tmp_path):
    options = dict(QUICK, tokenizer=base_run.output_dir, overrides=MINIATURE, max_steps=3, save_every=2)
    whole = pretrain(corpus / "text", output_dir=tmp_path, **options)
    again = pretrain(corpus / "text", output_dir=tmp_path, resume=True, **options)
    assert_equal_weights(again.model.state_dict(), whole.model.state_dict())
    assert again.metrics["validation"] == whole.metrics["validation"]


def test_languages_can_be_chosen_by_name(corpus, tmp_path):
    run = pretrain(
        corpus / "text",
        output_dir=tmp_path,
        languages=("Swahili", "en"),
        vocab_size=150,
        overrides=MINIATURE,
        max_steps=1,
        **QUICK,
    )
    assert run.model.languages == ("sw_KE", "en_XX")


def test_a_shared_adapter_serves_every_language(corpus, base_run, tmp_path):
    options = dict(QUICK, tokenizer=base_run.output_dir, overrides=MINIATURE, max_steps=4)
    run = pretrain(corpus / "text", output_dir=tmp_path / "shared", shared=True, **options)
    assert set(run.metrics["validation"]) == set(LANGUAGES)
    saved = XmodForMaskedLM.from_pretrained(tmp_path / "shared")
    assert saved.languages == LANGUAGES
    fresh = XmodForMaskedLM(saved.config).state_dict()
    for name, tensor in saved.state_dict().items():
        if ".de_DE." in name:
            for other in LANGUAGES:
                assert torch.equal(tensor, saved.state_dict()[name.replace("de_DE", other)])
            assert "weight" not in name or not torch.equal(tensor, fresh[name])
    results = evaluate(saved, str(corpus / "text"), languages=("sw_KE",), adapter=("right",), max_length=32)
    assert all(math.isfinite(row.value) for row in results.rows)


def test_a_causal_model_learns_and_is_validated_exactly(corpus, base_run, tmp_path):
    options = dict(QUICK, tokenizer=base_run.output_dir, overrides=MINIATURE, objective="clm")
    short = pretrain(corpus / "text", output_dir=tmp_path / "short", max_steps=2, **options)
    run = pretrain(corpus / "text", output_dir=tmp_path / "long", max_steps=40, **options)
    model = XmodForCausalLM.from_pretrained(tmp_path / "long").eval()
    assert model.config.is_decoder
    for language, values in run.metrics["validation"].items():
        assert values["loss"] < short.metrics["validation"][language]["loss"] - 0.3
        assert values["perplexity"] == pytest.approx(math.exp(values["loss"]))
    # The validation loss, from the model's own loss over the same blocks.
    lines = list(TextFiles("sw_KE", tuple((corpus / "text").glob("sw_KE*")), "dev", QUICK["dev_fraction"]))
    stream = [index for line in lines for index in [*run.tokenizer(line, add_special_tokens=False)["input_ids"], 2]]
    assert 3 not in stream
    rows = [[0, *stream[start : start + 31]] for start in range(0, len(stream), 31)]
    ids = torch.tensor([row + [1] * (32 - len(row)) for row in rows])
    real = ids != run.tokenizer.pad_token_id
    labels = ids.masked_fill(~real, -100)
    with torch.no_grad():
        loss = model(input_ids=ids, attention_mask=real.long(), lang_ids=torch.full((len(ids),), 2), labels=labels).loss
    values = run.metrics["validation"]["sw_KE"]
    assert values["loss"] == pytest.approx(loss.item(), abs=1e-5)
    # Bits: all nats, over the characters of the text with a line end a line.
    bits = loss.item() * len(stream) / sum(len(line) + 1 for line in lines) / math.log(2)
    assert values["bits_per_character"] == pytest.approx(bits, rel=1e-5)


def test_short_lines_have_no_more_masks_than_long_ones(corpus, base_run, tmp_path):
    options = dict(QUICK, tokenizer=base_run.output_dir, overrides=MINIATURE, max_steps=1)
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "en_XX.txt").write_text("the\n" * 200, encoding="utf-8")
    run = pretrain(corpus / "text", dev_text=dev, output_dir=tmp_path / "run", packing="lines", **options)
    tokens = 200 * len(run.tokenizer("the", add_special_tokens=False)["input_ids"])
    assert run.metrics["validation"]["en_XX"]["masked_tokens"] == round(0.15 * tokens)


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_after_mixed_precision_the_model_computes_as_it_is_saved(corpus, base_run, tmp_path, objective):
    options = dict(QUICK, tokenizer=base_run.output_dir, overrides=MINIATURE, objective=objective, max_steps=2)
    run = pretrain(corpus / "text", output_dir=tmp_path, precision="bf16", **options)
    saved = type(run.model).from_pretrained(tmp_path).eval()
    ids = torch.tensor([[0, *range(4, 20), 2]])
    with torch.no_grad():
        one, other = (model(ids, lang_ids=torch.tensor([1])).logits for model in (run.model, saved))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"schedule": "linear"}, [0.5, 1, 0.75, 0.5, 0.25]),
        ({"schedule": "constant"}, [0.5, 1, 1, 1, 1]),
        ({"schedule": "polynomial"}, [0.5, 1, 0.75**2, 0.5**2, 0.25**2]),
        ({"schedule": "cosine"}, [0.5, 1, *(0.5 + 0.5 * math.cos(math.pi * part) for part in (0.25, 0.5, 0.75))]),
        ({"schedule": "wsd", "decay": 1 / 3}, [0.5, 1, 1, 1, 0.5]),
    ],
)
def test_schedules(corpus, base_run, tmp_path, options, rates):
    given = dict(QUICK, tokenizer=base_run.output_dir, overrides=MINIATURE, max_steps=6, warmup=2, log_every=1)
    pretrain(corpus / "text", output_dir=tmp_path, **{**given, **options, "learning_rate": 1e-3})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    # The rate that a line shows is that of the step it follows, which for the first is zero.
    assert [line["learning_rate"] * 1e3 for line in lines] == pytest.approx([0, *rates])


def test_a_token_budget_and_whole_words(corpus, base_run, tmp_path):
    given = dict(QUICK, tokenizer=base_run.output_dir, overrides=MINIATURE, packing="lines", whole_words=True)
    del given["batch_size"]
    run = pretrain(corpus / "text", output_dir=tmp_path, batch_tokens=400, epochs=1, **given)
    pad = run.tokenizer.pad_token_id
    tokens = sum(int((blocks != pad).sum()) for blocks in kept_blocks(tmp_path, "*-train"))
    assert run.metrics["steps"] == math.ceil(tokens / 400)
    with pytest.raises(ConfigurationError, match="needs --mixing tokens"):
        pretrain(corpus / "text", output_dir=tmp_path, batch_tokens=400, mixing="batch", **given)


@pytest.mark.parametrize("more", [{}, {"batch_tokens": 200}], ids=["rows", "budget"])
def test_what_a_run_says_it_read_is_what_the_model_saw(corpus, base_run, tmp_path, monkeypatch, more):
    text = tmp_path / "text"
    shutil.copytree(corpus / "text", text)
    short = [f"{word} {number}" for word in ("nyumba", "mto", "soko") for number in range(200)]
    (text / "sw_KE.made.txt").write_text("\n".join(short), encoding="utf-8")
    seen = dict.fromkeys(LANGUAGES, 0)
    step = RoutedTrainer.training_step

    def noted(self, model, inputs, *args):
        for language, row in zip(inputs["lang_ids"].tolist(), inputs["attention_mask"], strict=True):
            seen[LANGUAGES[language]] += int(row.sum())
        return step(self, model, inputs, *args)

    monkeypatch.setattr(RoutedTrainer, "training_step", noted)
    options = dict(QUICK, tokenizer=base_run.output_dir, overrides=MINIATURE, packing="lines", batch_size=32)
    run = pretrain(text, output_dir=tmp_path / "run", alpha=0.0, max_steps=24, **options, **more)
    assert run.metrics["tokens_read"] == seen
    total = sum(seen.values())
    assert all(abs(tokens / total - 1 / 3) < 0.05 for tokens in seen.values()), seen


def test_errors_come_before_work(corpus, base_run, tmp_path):
    with pytest.raises(DataError, match="no text folder"):
        pretrain(tmp_path / "absent", output_dir=tmp_path / "x")
    with pytest.raises(LanguageError, match="Tamil"):
        pretrain(corpus / "text", output_dir=tmp_path / "x", languages=("Tamil",))
    with pytest.raises(ConfigurationError, match="contains a finished run"):
        pretrain(corpus / "text", output_dir=base_run.output_dir)
    with pytest.raises(ConfigurationError, match="there is no preset 'tinny'"):
        pretrain(corpus / "text", output_dir=tmp_path / "y", tokenizer=base_run.output_dir, preset="tinny")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigurationError, match="fp16 needs a GPU"):
            pretrain(corpus / "text", output_dir=tmp_path / "z", precision="fp16")
    with pytest.raises(ConfigurationError, match="--fsdp needs several processes"):
        pretrain(corpus / "text", output_dir=tmp_path / "f", fsdp=True)
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(ConfigurationError, match="needs TensorBoard"):
            pretrain(corpus / "text", output_dir=tmp_path / "t", report_to="tensorboard")
    for source in ("nowhere", "./nowhere", "a/b/nowhere"):
        with pytest.raises(DataError, match=f"No tokenizer at {source}: there is no such folder"):
            pretrain(corpus / "text", output_dir=tmp_path / "x", tokenizer=source)
    with pytest.raises(ConfigurationError, match=r"--overrides cannot set is_decoder, languages: text"):
        pretrain(corpus / "text", output_dir=tmp_path / "x", overrides={"languages": ["en"], "is_decoder": True})
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "de.txt").write_text("das Haus\n")
    with pytest.raises(DataError, match=r"has validation text for de, but for none of the languages of .* \(de_DE, en"):
        pretrain(corpus / "text", output_dir=tmp_path / "x", dev_text=tmp_path / "dev")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file/run cannot be created: Not a directory"):
        pretrain(corpus / "text", output_dir=tmp_path / "file" / "run")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("field", "value", "least"), [("vocab_size", 100, 200), ("max_position_embeddings", 20, 34)])
def test_overrides_leave_room_for_vocabulary_and_blocks(corpus, base_run, tmp_path, field, value, least):
    given = dict(QUICK, tokenizer=base_run.output_dir)
    with pytest.raises(ConfigurationError, match=rf"sets {field} to {value}; .* need at least {least}"):
        pretrain(corpus / "text", output_dir=tmp_path, **{**given, "overrides": {**MINIATURE, field: value}})
    wide = {**MINIATURE, field: 256}
    run = pretrain(corpus / "text", output_dir=tmp_path, **{**given, "overrides": wide, "max_steps": 1})
    assert getattr(run.model.config, field) == 256


def test_other_processes_wait_for_long_tokenising(tmp_path):
    arguments = training_arguments(build(PretrainOptions, {"text": "x", "output_dir": tmp_path}))
    assert arguments.ddp_timeout >= 24 * 3600
