"""Whatever happens to a checkpoint: a clear error and nothing left behind, or the very same result."""

from __future__ import annotations

import argparse
import io
import itertools
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given
from hypothesis import settings as cases
from hypothesis import strategies as st

from tests.reference.fairseq import BASE, STACK, settings, state_dict
from xmodular.conversion import convert
from xmodular.errors import ConfigurationError, DataError, visible

ARGS = settings(
    BASE, ("en_XX", "sw_KE"), encoder_layers=1, encoder_embed_dim=4, encoder_ffn_embed_dim=6, max_positions=5
)
ARGS["encoder_attention_heads"] = 2
STATE = state_dict(ARGS, pieces=9, heads={"mnli": 3})
NAMES = sorted(name for name in STATE if not name.endswith(".version"))
OLD = {
    f"{STACK}.layernorm_embedding.bias": f"{STACK}.emb_layer_norm.bias",
    f"{STACK}.layers.0.final_layer_norm.weight": f"{STACK}.layers.0.layer_norms.1.weight",
    "encoder.lm_head.bias": "decoder.lm_head.bias",
}
COUNTER = itertools.count()
many = cases(
    max_examples=120, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def packed(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def checkpoint(state: Mapping[str, Any]) -> dict[str, Any]:
    return {"args": None, "cfg": {"model": argparse.Namespace(**ARGS)}, "model": dict(state)}


WHOLE = packed(checkpoint(STATE))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


def outcome(data: bytes, bench: Path) -> tuple[bytes, ...] | str:
    """Convert a file of these bytes: the bytes of what comes out, or the message of the error."""
    path = bench / "model.pt"
    path.write_bytes(data)
    target = bench / "ours"
    try:
        convert(path, output_dir=target)
    except (DataError, ConfigurationError) as error:
        assert sorted(each.name for each in bench.iterdir()) == ["model.pt"], "something is left behind"
        return str(error)
    made = tuple((target / name).read_bytes() for name in ("config.json", "model.safetensors"))
    shutil.rmtree(target)
    return made


@pytest.fixture(scope="module")
def sound(bench: Path) -> tuple[bytes, ...]:
    made = outcome(WHOLE, bench)
    assert not isinstance(made, str)
    return made


def assert_refused(made: tuple[bytes, ...] | str, *words: str) -> None:
    assert isinstance(made, str), "it was converted"
    assert "model.pt" in made or "checkpoint" in made
    assert any(visible(word) in made for word in words), made


@many
@given(st.integers(0, len(WHOLE) - 1))
@example(0)
@example(len(WHOLE) - 1)
def test_cut_off(bench: Path, length: int) -> None:
    assert_refused(outcome(WHOLE[:length], bench), "damaged")


@cases(many, max_examples=250)
@given(st.integers(0, 8 * len(WHOLE) - 1))
def test_a_flipped_bit(bench: Path, sound: tuple[bytes, ...], bit: int) -> None:
    data = bytearray(WHOLE)
    data[bit // 8] ^= 1 << bit % 8
    made = outcome(bytes(data), bench)
    if isinstance(made, str):
        assert_refused(made, "damaged")
    else:  # dates, attributes and padding of the archive mean nothing
        assert made == sound


def test_no_record_is_unguarded(bench: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        records = [info for info in archive.infolist() if info.file_size]
    assert len(records) > 30
    for info in records:
        sizes = WHOLE[info.header_offset + 26 : info.header_offset + 30]
        start = info.header_offset + 30 + int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")
        for place in (start, start + info.file_size - 1):
            data = bytearray(WHOLE)
            data[place] ^= 1
            assert_refused(outcome(bytes(data), bench), f"checksum of '{info.filename}'")


@many
@given(st.sets(st.sampled_from(NAMES), min_size=1, max_size=6))
def test_dropped_weights(bench: Path, names: set[str]) -> None:
    made = outcome(packed(checkpoint({name: value for name, value in STATE.items() if name not in names})), bench)
    assert_refused(made, *names, "no X-MOD model")


@many
@given(st.sampled_from(NAMES), st.text(min_size=0, max_size=12), st.booleans())
@example(f"{STACK}.layers.0.adapter_modules.sw_KE.fc1.bias", "{layer}", False)
def test_renamed_weights(bench: Path, name: str, text: str, append: bool) -> None:
    other = name + "." + text if append else text
    made = outcome(packed(checkpoint({other if each == name else each: value for each, value in STATE.items()})), bench)
    assert_refused(made, other, name)


VALUES = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.integers(),
    st.lists(st.floats(), max_size=3),
    st.sampled_from([torch.int64, torch.int8, torch.bool, torch.uint8]).map(
        lambda dtype: torch.ones(2, 2, dtype=dtype)
    ),
    st.just(torch.ones(2, 2).to_sparse()),
    st.just(torch.ones(2, 2, dtype=torch.complex64)),
    st.just({"nested": torch.ones(1)}),
    st.just(argparse.Namespace(weight=torch.ones(1))),
)


def test_a_language_renamed_in_one_layer(bench: Path) -> None:
    name = f"{STACK}.layers.0.adapter_modules.sw_KE.fc1.bias"
    made = outcome(
        packed(
            checkpoint(
                {each.replace("sw_KE", "fr_XX") if each == name else each: value for each, value in STATE.items()}
            )
        ),
        bench,
    )
    assert_refused(made, "fr_XX")


@many
@given(st.sampled_from(NAMES), VALUES)
def test_values_of_another_type(bench: Path, name: str, value: Any) -> None:
    assert_refused(outcome(packed(checkpoint({**STATE, name: value})), bench), name, "damaged")


@many
@given(st.sampled_from(NAMES), st.lists(st.integers(0, 7), max_size=3))
def test_wrong_shapes(bench: Path, name: str, shape: list[int]) -> None:
    if tuple(shape) == STATE[name].shape:
        shape = [*shape, 1]
    made = outcome(packed(checkpoint({**STATE, name: torch.ones(shape)})), bench)
    assert_refused(made, name, "has shape", "its weights say", "adapters are")


@cases(many, max_examples=40)
@given(st.permutations(list(STATE)))
def test_another_order_changes_nothing(bench: Path, sound: tuple[bytes, ...], names: list[str]) -> None:
    assert outcome(packed(checkpoint({name: STATE[name] for name in names})), bench) == sound


@cases(many, max_examples=40)
@given(st.sets(st.sampled_from(sorted(OLD))), st.sets(st.sampled_from(sorted(OLD))))
def test_old_spellings_beside_new_ones(bench: Path, sound: tuple[bytes, ...], old: set[str], both: set[str]) -> None:
    state = {OLD[name] if name in old else name: value for name, value in STATE.items()}
    state |= {(name if name in old else OLD[name]): STATE[name] for name in both}
    made = outcome(packed(checkpoint(state)), bench)
    if both:
        assert_refused(made, "are the same weight")
    else:
        assert made == sound


@cases(many, max_examples=40)
@given(st.sampled_from(sorted(set(NAMES) - {f"{STACK}.embed_tokens.weight", "encoder.lm_head.weight"})))
def test_half_precision_in_places_is_kept(bench: Path, sound: tuple[bytes, ...], name: str) -> None:
    made = outcome(packed(checkpoint({**STATE, name: STATE[name].half()})), bench)
    assert not isinstance(made, str)
    assert made[0] == sound[0]
    assert len(sound[1]) - len(made[1]) <= 2 * STATE[name].numel() + 64


SETTINGS = st.one_of(
    st.none(),
    st.integers(-3, 20),
    st.text(max_size=4),
    st.booleans(),
    st.floats(),
    st.lists(st.sampled_from(["en_XX", "sw_KE", "fr_XX", "keys", 3, None]), max_size=4),
    st.just(argparse.Namespace()),
)


@many
@given(st.dictionaries(st.sampled_from(sorted(ARGS)), SETTINGS, min_size=1, max_size=3))
def test_settings_of_any_kind(bench: Path, sound: tuple[bytes, ...], over: dict[str, Any]) -> None:
    content = {"cfg": {"model": argparse.Namespace(**{**ARGS, **over})}, "model": dict(STATE)}
    made = outcome(packed(content), bench)
    if isinstance(made, str):
        assert "checkpoint cannot be converted" in made or "Invalid XmodConfig" in made or "untie" in made
    else:
        assert made[1] == sound[1]


@cases(many, max_examples=60)
@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=5), st.just(dict(STATE)), st.just(torch.ones(2))),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["model", "args", "cfg", "state", 7, None]), inner, max_size=3),
        ),
        max_leaves=4,
    )
)
def test_other_things_in_the_file(bench: Path, content: Any) -> None:
    made = outcome(packed(content), bench)
    if isinstance(made, str):
        assert "model.pt" in made or "checkpoint" in made
    else:  # the weights alone, where the settings say nothing else
        assert dict(content["model"]).keys() == STATE.keys()
