"""A damaged model folder is a clear error, or the same model; never a half-loaded one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support import assert_same_state, tiny_model
from xmodular import (
    Predictor,
    XmodConfig,
    XmodForMaskedLM,
    XmodForMultipleChoice,
    XmodForQuestionAnswering,
    XmodForSequenceClassification,
    XmodForTokenClassification,
    XmodModel,
    evaluate,
    pack_install,
    pack_remove,
    pack_save,
    predict,
    upcycle,
)
from xmodular.errors import ConfigurationError, XmodularError
from xmodular.tasks import load_saved
from xmodular.training import Run

EVERY = settings(
    derandomize=True, deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sound"
    tiny_model(XmodForMaskedLM, num_hidden_layers=1, hidden_size=8, intermediate_size=8).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def work(sound: Path) -> Iterator[Path]:
    folder = sound.parent / "damaged"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def state(folder: Path) -> dict[str, Tensor]:
    return load_saved(folder).state_dict()


def copied(sound: Path, work: Path) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(sound, work)
    return work


def is_an_error_or_the_same(sound: Path, folder: Path) -> bool:
    """Whether it was an error."""
    try:
        found = state(folder)
    except XmodularError:
        return True
    assert_same_state(found, state(sound))
    return False


@given(data=st.data())
@EVERY
def test_a_configuration_with_other_values(sound: Path, work: Path, data: Any) -> None:
    folder = copied(sound, work)
    config = json.loads((folder / "config.json").read_text())
    name = data.draw(st.sampled_from(sorted(config)))
    config[name] = data.draw(JSON)
    (folder / "config.json").write_text(json.dumps(config))
    try:
        model = load_saved(folder)
    except XmodularError:
        return
    with torch.no_grad():  # what loads also runs
        model.float()(torch.tensor([[0, 5, 2]]), lang_ids=torch.tensor([0]))


@given(share=st.floats(0, 1, exclude_max=True), name=st.sampled_from(["config.json", "model.safetensors"]))
@EVERY
def test_truncated(sound: Path, work: Path, share: float, name: str) -> None:
    folder = copied(sound, work)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    # The last byte of the configuration is a line end.
    assert is_an_error_or_the_same(sound, folder) or name == "config.json"


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@EVERY
def test_a_bit_of_the_header_flipped(sound: Path, work: Path, place: float, bit: int) -> None:
    folder = copied(sound, work)
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    content[int(place * header)] ^= 1 << bit
    path.write_bytes(content)
    is_an_error_or_the_same(sound, folder)


@given(data=st.data())
@EVERY
def test_weights_renamed_retyped_reshaped_reordered(sound: Path, work: Path, data: Any) -> None:
    folder = copied(sound, work)
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = data.draw(st.sampled_from(sorted(weights)))
    tensor = weights[name]
    kind = data.draw(st.sampled_from(["gone", "renamed", "reshaped", "integers", "reordered"]))
    if kind == "gone":
        del weights[name]
    elif kind == "renamed":
        weights[data.draw(st.text(min_size=1, max_size=9))] = weights.pop(name)
    elif kind == "reshaped":
        weights[name] = torch.cat([tensor, tensor])
    elif kind == "integers":
        weights[name] = tensor.to(data.draw(st.sampled_from([torch.int64, torch.bool, torch.uint8])))
    else:
        weights = {name: weights[name] for name in data.draw(st.permutations(sorted(weights)))}
    save_file(weights, path, metadata={"format": "pt"})
    assert is_an_error_or_the_same(sound, folder) == (kind != "reordered")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '"x"', "[" * 100_000, "\x00"])
def test_a_configuration_that_is_none(sound: Path, work: Path, content: str) -> None:
    folder = copied(sound, work)
    (folder / "config.json").write_text(content)
    with pytest.raises(XmodularError):
        load_saved(folder)


HEADS = (
    (XmodForSequenceClassification, "classifier."),
    (XmodForTokenClassification, "classifier."),
    (XmodForQuestionAnswering, "qa_outputs."),
    (XmodForMultipleChoice, "classifier."),
)


@pytest.mark.parametrize(("cls", "prefix"), HEADS)
@pytest.mark.parametrize("lost", ["all", "one"])
def test_a_head_that_is_not_in_the_file_is_no_random_one(
    cls: Any, prefix: str, lost: str, base_run: Run, corpus: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(base_run.output_dir, folder, ignore=shutil.ignore_patterns("checkpoints", "blocks"))
    cls(XmodConfig.from_pretrained(folder)).save_pretrained(folder)
    pack_save(folder, "sw", output_dir=tmp_path / "pack")
    state = load_file(folder / "model.safetensors")
    head = sorted(key for key in state if key.startswith(prefix))
    gone = head if lost == "all" else head[-1:]
    save_file({key: each for key, each in state.items() if key not in gone}, folder / "model.safetensors")
    rows = corpus / "topic" / "en_XX.test.jsonl"
    calls = (
        lambda: load_saved(folder),
        lambda: Predictor(folder),
        lambda: predict(folder, rows, tmp_path / "out.jsonl"),
        lambda: evaluate(folder, corpus / "topic", output_dir=tmp_path / "eval"),
        lambda: pack_install(tmp_path / "pack", folder, language="gsw", output_dir=tmp_path / "more"),
        lambda: pack_remove(folder, "sw", output_dir=tmp_path / "less"),
        lambda: upcycle(folder, ["de", "fi"], output_dir=tmp_path / "modular"),
    )
    for call in calls:
        with pytest.raises(ConfigurationError, match=rf"weights of its head.*{re.escape(gone[0])}.*xmodular finetune"):
            call()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model", "pack"]
    upcycle(folder, ["de", "fi"], output_dir=tmp_path / "modular", head=False)  # the encoder is whole


def test_a_bare_encoder_without_a_pooler_gets_none(tmp_path: Path) -> None:
    model = tiny_model(XmodModel)
    model.pooler = None
    model.save_pretrained(tmp_path)
    assert_same_state(state(tmp_path), model.state_dict())
