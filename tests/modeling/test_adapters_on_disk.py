"""Languages left on disk: the same outputs in the memory of a few."""

from __future__ import annotations

import copy
import gc
import shutil
import threading
import time
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.packs.samples import with_own_vocabulary
from tests.support import BASE_FLAGS, LARGE_FLAGS, tiny_model
from xmodular import XmodForMaskedLM, XmodForSequenceClassification, XmodModel
from xmodular.errors import ConfigurationError, DataError, InputError, LanguageError
from xmodular.modeling.adapters import XmodAdapter
from xmodular.modeling.adapters_on_disk import on_disk
from xmodular.stored_tensors import StoredTensors

CODES = ("en_XX", "de_DE", "sw_KE", "fr_XX", "ru_RU", "hi_IN", "ta_IN", "th_TH", "tr_TR", "ur_PK")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "many"
    tiny_model(XmodForSequenceClassification, languages=list(CODES), num_labels=3).save_pretrained(path)
    return path


def batch(seed: int, languages: list[int] | None = None) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)
    rows, length = 16, 12
    lengths = torch.randint(1, length + 1, (rows,), generator=draw)
    ids = torch.randint(4, 99, (rows, length), generator=draw)
    mask = (torch.arange(length) < lengths[:, None]).long()
    chosen = torch.randint(len(CODES), (rows,), generator=draw)
    return {"input_ids": ids, "attention_mask": mask, "lang_ids": torch.tensor(languages) if languages else chosen}


def held(model: torch.nn.Module) -> int:
    """Numbers in the adapters that are in memory, counted from all live objects but the model's own lists."""
    kept = [adapter for layer in on_disk(model) for adapter in layer._kept.values()]
    return sum(parameter.numel() for adapter in kept for parameter in adapter.parameters())


@pytest.mark.parametrize("flags", [BASE_FLAGS, LARGE_FLAGS], ids=["base", "large"])
@pytest.mark.parametrize("most", [1, 3, 10])
def test_same_outputs_bit_by_bit_in_less_memory(tmp_path: Path, most: int, flags: dict[str, Any]) -> None:
    tiny_model(XmodForSequenceClassification, languages=list(CODES), num_labels=3, **flags).save_pretrained(tmp_path)
    whole = XmodForSequenceClassification.from_pretrained(tmp_path).eval()
    model = XmodForSequenceClassification.from_pretrained(tmp_path, resident_languages=most).eval()
    assert model.languages == whole.languages
    assert model.resident_languages == ()
    one = sum(each.numel() for name, each in whole.named_parameters() if ".adapter_modules.sw_KE." in name)
    shared = sum(each.numel() for name, each in whole.named_parameters() if ".adapter_modules." not in name)
    assert model.num_parameters() == shared
    with torch.inference_mode():
        for seed in range(8):
            given = batch(seed)
            assert torch.equal(model(**given).logits, whole(**given).logits)
            assert held(model) <= most * one
            assert len(model.resident_languages) == min(most, len(model.resident_languages))
        per_token = {**batch(9), "lang_ids": torch.randint(len(CODES), (16, 12))}
        assert torch.equal(model(**per_token).logits, whole(**per_token).logits)
    assert held(model) == most * one


def test_the_languages_used_last_stay_and_others_are_freed(folder: Path) -> None:
    model = XmodForSequenceClassification.from_pretrained(folder, resident_languages=2).eval()
    for language in (0, 1, 0, 2):
        model(**batch(0, [language] * 16))
    assert model.resident_languages == ("en_XX", "sw_KE")
    layer = on_disk(model)[0]
    german = weakref.ref(layer["de_DE"])
    assert layer.kept == ("sw_KE", "de_DE")
    layer["en_XX"], layer["sw_KE"]
    gc.collect()
    assert german() is None


def test_threads_do_not_disturb_each_other(folder: Path) -> None:
    """Each asks for other languages than the rest, with room for one: what a thread computes with stays."""
    whole = XmodForSequenceClassification.from_pretrained(folder).eval()
    model = XmodForSequenceClassification.from_pretrained(folder, resident_languages=1).eval()
    wrong: list[int] = []

    def ask(number: int) -> None:
        with torch.inference_mode():
            for seed in range(number, 60, 4):
                given = batch(seed, [(number + seed) % len(CODES)] * 16 if seed % 2 else None)
                if not torch.equal(model(**given).logits, whole(**given).logits):
                    wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(on_disk(model)[0].kept) == 1


def test_threads_that_drop_adapters_at_once_leave_the_last(folder: Path) -> None:
    """Every thread sees two adapters with room for one: only one of the threads may drop one."""

    class Slow(OrderedDict[str, XmodAdapter]):
        def __len__(self) -> int:
            length = super().__len__()
            time.sleep(0.002)  # the other threads' turn
            return length

    layer = on_disk(XmodForSequenceClassification.from_pretrained(folder, resident_languages=1))[0]
    layer._kept = Slow()
    for _ in range(3):
        threads = [threading.Thread(target=layer.__getitem__, args=(code,)) for code in CODES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(layer.kept) == 1


def test_some_languages_in_another_order_and_precision(folder: Path) -> None:
    chosen = ["ur", "German", "en_XX"]
    whole = XmodForSequenceClassification.from_pretrained(folder, languages=chosen, dtype=torch.bfloat16).eval()
    model = XmodForSequenceClassification.from_pretrained(
        folder, languages=chosen, dtype=torch.bfloat16, resident_languages=1, default_language="de"
    ).eval()
    assert model.languages == whole.languages == ("ur_PK", "de_DE", "en_XX")
    given = batch(3, [0, 1, 2, 1] * 4)
    assert torch.equal(model(**given).logits, whole(**given).logits)
    del given["lang_ids"]
    with whole.language("de"):
        assert torch.equal(model(**given).logits, whole(**given).logits)
    assert {each.dtype for each in on_disk(model)[0]["ur_PK"].parameters()} == {torch.bfloat16}
    assert {each.dtype for each in on_disk(model.float())[0]["ur_PK"].parameters()} == {torch.float32}
    with pytest.raises(LanguageError, match="xx"):
        XmodForSequenceClassification.from_pretrained(folder, languages=["xx"], resident_languages=1)


def test_copies_are_apart(folder: Path) -> None:
    model = XmodForSequenceClassification.from_pretrained(folder, resident_languages=2).eval()
    given = batch(1)
    expected = model(**given).logits
    double = copy.deepcopy(model).to(torch.float64)
    assert torch.allclose(double(**given).logits, expected.double(), atol=1e-5)
    assert torch.equal(model(**given).logits, expected)


def test_a_bare_encoder_and_its_head_share_a_file(folder: Path, tmp_path: Path) -> None:
    """Weights are found with and without the prefix of models with a head."""
    given = batch(2)
    whole = XmodModel.from_pretrained(folder).eval()
    model = XmodModel.from_pretrained(folder, resident_languages=2).eval()
    assert torch.equal(model(**given).last_hidden_state, whole(**given).last_hidden_state)
    whole.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    whole = XmodModel.from_pretrained(tmp_path).eval()
    headed = XmodForMaskedLM.from_pretrained(tmp_path, resident_languages=2).eval()
    assert torch.equal(headed.roberta(**given).last_hidden_state, whole(**given).last_hidden_state)


def test_a_vocabulary_of_its_own_stays_in_memory(tmp_path: Path) -> None:
    with_own_vocabulary().save_pretrained(tmp_path)
    whole = XmodForMaskedLM.from_pretrained(tmp_path).eval()
    model = XmodForMaskedLM.from_pretrained(tmp_path, resident_languages=1).eval()
    for language, ids in (("sw", [[0, 4, 5, 2]]), ("de", [[0, 9, 19, 2]])):
        given = {"input_ids": torch.tensor(ids), "lang_ids": model.lang_ids([language])}
        assert torch.equal(model(**given).logits, whole(**given).logits)


def test_packs_are_saved_from_disk(folder: Path, tmp_path: Path) -> None:
    model = XmodForSequenceClassification.from_pretrained(folder, resident_languages=1)
    whole = XmodForSequenceClassification.from_pretrained(folder)
    ours, theirs = (
        model.save_language("ta", tmp_path / "a").adapter(),
        whole.save_language("ta", tmp_path / "b").adapter(),
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_needs_all_languages_is_refused_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    model = XmodForSequenceClassification.from_pretrained(folder, resident_languages=2).eval()
    whole = XmodForSequenceClassification.from_pretrained(folder).eval()
    pack = whole.save_language("ta", tmp_path / "pack")
    for refused in (
        lambda: model.add_language("gsw"),
        lambda: model.add_language("gsw", "de"),
        lambda: model.remove_language("de"),
        lambda: model.rename_language("de", "gsw"),
        lambda: model.keep_languages(["de"]),
        lambda: model.load_language(pack, language="gsw"),
        lambda: torch.export.export(model, (), batch(0)),
        lambda: model.load_state_dict(whole.state_dict()),
        lambda: model.load_state_dict(whole.state_dict(), strict=False),
    ):
        with pytest.raises((InputError, RuntimeError), match="load it without resident_languages"):
            refused()
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})  # the shared weights
    with pytest.raises(ConfigurationError, match="copy its folder"):
        model.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert torch.equal(model(**batch(4)).logits, whole(**batch(4)).logits)
    with pytest.raises(ConfigurationError, match="resident_languages is 0"):
        XmodForSequenceClassification.from_pretrained(folder, resident_languages=0)


def test_damaged_files(folder: Path, tmp_path: Path) -> None:
    config = (folder / "config.json").read_text()
    weights = load_file(folder / "model.safetensors")
    name = "roberta.encoder.layer.1.output.adapter_modules.tr_TR.dense2.weight"

    def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
        path.mkdir()
        (path / "config.json").write_text(config)
        save_file(tensors, path / "model.safetensors", {"format": "pt"})
        return path

    for path, tensors, said in (
        (tmp_path / "lacking", {key: value for key, value in weights.items() if key != name}, "has no weight"),
        (tmp_path / "odd", {**weights, name: weights[name][:-1].contiguous()}, "shape"),
    ):
        with pytest.raises(DataError, match=f"{said}.*" if said == "shape" else said):
            XmodForSequenceClassification.from_pretrained(saved(path, tensors), resident_languages=2)
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text(config)
    torch.save(weights, old / "pytorch_model.bin")
    with pytest.raises(DataError, match="save it again"):
        XmodForSequenceClassification.from_pretrained(old, resident_languages=2)
    cut = saved(tmp_path / "cut", weights)
    tensors = StoredTensors.of_model(cut)
    with (cut / "model.safetensors").open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(DataError, match="shorter than when it was opened"):
        [tensors[name] for name in weights]


def test_a_file_that_is_replaced_is_read_as_it_was(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(folder, path)
    whole = XmodForSequenceClassification.from_pretrained(path).eval()
    model = XmodForSequenceClassification.from_pretrained(path, resident_languages=1).eval()
    other = tiny_model(XmodForSequenceClassification, seed=5, languages=list(CODES), num_labels=3)
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(path / "model.safetensors")
    assert torch.equal(model(**batch(6)).logits, whole(**batch(6)).logits)


def test_dropped_tensors_leave_no_holes_in_memory(tmp_path: Path) -> None:
    """Of 250 tensors of 300 KB, every eighth is kept: the system has the others' memory back, not the allocator."""
    psutil = pytest.importorskip("psutil")
    save_file({str(number): torch.ones(300, 250) for number in range(250)}, tmp_path / "model.safetensors")
    tensors = StoredTensors([tmp_path / "model.safetensors"])
    del [torch.ones(4_000_000)][0]  # after which glibc takes 300 KB from its heap
    kept = [tensors[str(number)] for number in range(250)]
    assert all(torch.equal(each, torch.ones(300, 250)) for each in kept)
    whole = psutil.Process().memory_info().rss
    del kept[1::8], kept[1::7], kept[1::6], kept[1::5], kept[1::4], kept[1::3], kept[1::2]
    assert whole - psutil.Process().memory_info().rss > 50e6


def test_no_random_numbers_are_drawn(folder: Path) -> None:
    model = XmodForSequenceClassification.from_pretrained(folder, resident_languages=1).eval()
    before = torch.get_rng_state()
    model(**batch(7))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(type(each) is XmodAdapter for each in on_disk(model)[0]._kept.values())
