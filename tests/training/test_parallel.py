"""Two processes do what one does with the same global batch: DDP and FSDP, mixed batches and one language a rank."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import MINIATURE
from xmodular import upcycle
from xmodular.training.checkpoints import last_checkpoint

# Without dropout, whose draws are each process's own. So few rows a step that languages are often absent from a rank,
# or from all, and weight decay that would show if an absent language's adapter moved.
OPTIONS = {
    "preset": "tiny",
    "overrides": {**MINIATURE, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "block_size": 32,
    "batch_size": 2,
    "max_steps": 20,
    "dev_fraction": 0.1,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "log_every": 5,
    "save_every": 8,
}


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture(scope="module")
def run(corpus, base_run, tmp_path_factory, nursery):
    """Runs `pretrain` with some options in some processes; gives its folder."""
    folder = tmp_path_factory.mktemp("parallel")
    common = {"text": str(corpus / "text"), "tokenizer": str(base_run.output_dir), "cache_dir": str(folder / "cache")}

    def runs(name: str, ranks: int, **options: object) -> Path:
        output = folder / name
        (folder / f"{name}.json").write_text(json.dumps({**common, **OPTIONS, "output_dir": str(output), **options}))
        nursery.run("pretrain", "--config", str(folder / f"{name}.json"), ranks=ranks, port=free_port())
        return output

    return runs


@pytest.fixture(scope="module")
def alone(run):
    """One process: two batches of two rows a step, mixed or of one language each."""
    return {mixing: run(f"one-{mixing}", 1, accumulation=2, mixing=mixing) for mixing in ("tokens", "batch")}


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_close(one: Path, other: Path) -> None:
    mine, theirs = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=0, msg=lambda text, n=name: f"{n}: {text}")
    assert len(lines(one)) == 4
    for line, its in zip(lines(one), lines(other), strict=True):
        assert line == pytest.approx(its, abs=1e-5)
    validation, its_validation = (
        json.loads((folder / "metrics.json").read_text())["validation"] for folder in (one, other)
    )
    for language, values in validation.items():
        assert values == pytest.approx(its_validation[language], abs=1e-4)


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp"])
@pytest.mark.parametrize("mixing", ["tokens", "batch"])
def test_two_processes_are_one(run, alone, mixing, fsdp):
    two = run(f"two-{mixing}-{fsdp}", 2, mixing=mixing, fsdp=fsdp)
    assert_close(two, alone[mixing])
    saved = {path.name for path in last_checkpoint(two).iterdir()}
    assert {"loss-0.json", "loss-1.json", "rng_state_0.pth", "rng_state_1.pth", "complete.json"} <= saved


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp"])
def test_two_processes_go_on_where_they_stopped(run, alone, fsdp):
    name = f"two-tokens-{fsdp}"
    folder = alone["tokens"].parent / name
    if not (folder / "options.json").exists():
        run(name, 2, fsdp=fsdp)
    before, log = load_file(folder / "model.safetensors"), lines(folder)
    for file in ("options.json", "model.safetensors", "metrics.json"):
        (folder / file).unlink()
    model = last_checkpoint(folder) / "model.safetensors"
    os.truncate(model, model.stat().st_size - 1)
    assert last_checkpoint(folder).name == "checkpoint-16"
    run(name, 2, fsdp=fsdp, mixing="tokens")
    after = load_file(folder / "model.safetensors")
    assert lines(folder) == log
    for weight, tensor in before.items():
        assert torch.equal(tensor, after[weight]), weight


def test_a_language_that_no_process_sees_does_not_move(run, corpus, tmp_path):
    # With alpha 1 and two steps of few rows, the smallest language is not drawn.
    options = {"max_steps": 2, "alpha": 1.0, "weight_decay": 0.5, "learning_rate": 0.1, "save_every": None, "seed": 2}
    models = [
        load_file(run(f"unseen-{name}", ranks, fsdp=name == "fsdp", **{**options, **more}) / "model.safetensors")
        for name, ranks, more in (
            ("ddp", 2, {}),
            ("fsdp", 2, {}),
            ("start", 1, {"learning_rate": 1e-30, "weight_decay": 0.0}),
        )
    ]
    moved = {
        language: [
            not torch.equal(model[name], models[2][name])
            for model in models[:2]
            for name in models[2]
            if f"adapter_modules.{language}.dense1.weight" in name
        ]
        for language in ("en_XX", "sw_KE")
    }
    assert all(moved["en_XX"])
    assert not any(moved["sw_KE"])


def test_two_processes_go_on_with_a_model_as_one(corpus, base_run, tmp_path, nursery):
    """A new head first, then the adapters of two of three languages; also in shards."""
    encoder = tmp_path / "encoder"
    upcycle(base_run.output_dir, ["en", "de", "sw"], output_dir=encoder, head=False)
    common = {**OPTIONS, "text": str(corpus / "text"), "model": str(encoder), "languages": ["en", "de"]}
    common |= {"max_steps": 6, "save_every": None, "cache_dir": str(tmp_path / "cache"), "preset": None}
    common |= {"overrides": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}
    common |= {"trainable": "adapters", "head_steps": 4, "log_every": 2}
    kinds = {"one": (1, {"accumulation": 2}), "ddp": (2, {}), "fsdp": (2, {"fsdp": True})}
    for name, (ranks, more) in kinds.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**common, **more, "output_dir": str(tmp_path / name)}))
        nursery.run("pretrain", "--config", str(tmp_path / f"{name}.json"), ranks=ranks, port=free_port())
    states = {name: load_file(tmp_path / name / "model.safetensors") for name in kinds}
    heads = {name: load_file(tmp_path / name / "head" / "model.safetensors") for name in kinds}
    metrics = {name: json.loads((tmp_path / name / "metrics.json").read_text()) for name in kinds}
    start = load_file(encoder / "model.safetensors")
    for name in ("ddp", "fsdp"):
        for mine, its in ((states["one"], states[name]), (heads["one"], heads[name])):
            assert mine.keys() == its.keys()
            for weight, tensor in mine.items():
                torch.testing.assert_close(tensor, its[weight], atol=1e-5, rtol=0, msg=lambda m, n=weight: f"{n}: {m}")
        for weight, tensor in start.items():
            if weight.startswith(("embeddings", "encoder")):
                trained = ".adapter_modules.en_XX." in weight or ".adapter_modules.de_DE." in weight
                assert torch.equal(tensor, states[name][f"roberta.{weight}"]) is not trained, weight
        for when in ("before", "validation"):
            for language, values in metrics["one"][when].items():
                assert values == pytest.approx(metrics[name][when][language], abs=1e-4)


@pytest.mark.parametrize("task", ["tag", "qa"])
def test_two_processes_fine_tune_as_one(corpus, base_run, tasks, tmp_path, nursery, task):
    """Rows have unequal numbers of labels and windows; validation is divided, and stops both at the same step."""
    model = tmp_path / "model"
    shutil.copytree(base_run.output_dir, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps({**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    )
    options = {
        **{"model": str(model), "train": str(tasks[task]), "dev": str(tasks[task]), "task": task, "language": "en"},
        **{"batch_size": 2, "max_steps": 12, "max_length": 24, "stride": 4, "learning_rate": 2e-3, "log_every": 3},
        **{"eval_every": 4, "save_every": 4, "patience": 5},
    }
    for name, ranks, more in (("one", 1, {"accumulation": 2}), ("two", 2, {})):
        values = {**options, **more, "output_dir": str(tmp_path / name)}
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
        nursery.run("finetune", "--config", str(tmp_path / f"{name}.json"), ranks=ranks, port=free_port())
    mine, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=0, msg=lambda text, n=name: f"{n}: {text}")
    for line, its in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert line == pytest.approx(its, abs=1e-5)
