"""A model replaced in its own folder, interrupted or killed at every moment at which a file appears or goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.packs.samples import CODES, OWN_ROWS, small_model, tokenizer_text
from tests.support import assert_same_state
from xmodular import XmodForMaskedLM
from xmodular.comparison.sides import part_of
from xmodular.pack_verbs import replacing
from xmodular.pack_verbs.replacing import replaced_in

TOUCHED = "sw_KE"


def own(rows: int = OWN_ROWS, text: str | None = None) -> Any:
    """The small model with a vocabulary of its own for the language in question, whose adapter is another, too."""
    model = moved()
    model.set_vocabulary(TOUCHED, text or tokenizer_text(), torch.randn(rows, model.config.hidden_size))
    return model


def moved() -> Any:
    model = small_model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f".{TOUCHED}." in name:
                parameter.add_(1)
    return model


def removed() -> Any:
    model = small_model()
    model.remove_language(TOUCHED)
    return model


def alone(model: Any) -> Any:
    model.keep_languages([TOUCHED])
    return model


OTHER_TOKENIZER = tokenizer_text().replace("▁a", "▁c")
CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
    "new language": (removed, small_model, "file"),
    "removed": (small_model, removed, "file"),
    "own vocabulary removed": (own, removed, "file"),
    "another adapter": (small_model, moved, "file"),
    "plain over own": (own, small_model, "file"),
    "own over plain": (small_model, own, "file"),
    "other rows": (own, lambda: own(OWN_ROWS + 2), "file"),
    "other rows, shards": (own, lambda: own(OWN_ROWS + 2), "shards"),
    "other rows, bin": (own, lambda: own(OWN_ROWS + 2), "bin"),
    "other tokenizer": (own, lambda: own(text=OTHER_TOKENIZER), "file"),
    "the only language": (lambda: alone(own()), lambda: alone(own(OWN_ROWS + 2)), "file"),
}


def save(model: Any, folder: Path, form: str) -> None:
    model.save_pretrained(folder, max_shard_size="1KB" if form == "shards" else "1GB")
    if form == "bin":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")


def load(folder: Path) -> Any:
    model, report = XmodForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    return model


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def states(model: Any) -> dict[str, dict[str, Tensor]]:
    """The weights by part: a language's, or what languages share."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        found.setdefault(part_of(name.removeprefix("roberta."), biases=True), {})[name] = tensor
    return found


def interrupted(
    folder: Path, fresh: Path, at: int, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], *, for_good: bool
) -> bool:
    """Replace the model in `folder` by the one in `fresh`; the change of file number `at` fails.

    Args:
        for_good: whether all that follows fails too, as it does in a process that is dead.

    Returns:
        Whether there was such a change.
    """
    count = 0

    def failing(true: Callable[..., None], place: int) -> Callable[..., None]:
        def call(*paths: Any, **more: Any) -> None:
            nonlocal count
            if Path(paths[place]).parent == folder:
                count += 1
                if count == at or (for_good and count > at):
                    raise error
            true(*paths, **more)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(os.replace, 1))
        patch.setattr(os, "unlink", failing(os.unlink, 0))
        if for_good:
            patch.setattr(replacing.shutil, "rmtree", lambda *args, **more: None)
        try:
            with replaced_in(folder) as beside:
                shutil.copytree(fresh, beside, dirs_exist_ok=True)
        except error:
            return True
    return False


@pytest.mark.parametrize("change", CHANGES)
def test_every_moment(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, form = CHANGES[change]
    save(before(), tmp_path / "before", form)
    (tmp_path / "before" / "metrics.json").write_text("{}")
    save(after(), tmp_path / "after", "file")
    old, new = (states(load(tmp_path / name)) for name in ("before", "after"))
    files = contents(tmp_path / "before")
    moments = 0
    for at in range(1, 99):
        for error in (KeyboardInterrupt, OSError):
            folder = tmp_path / f"{error.__name__}{at}"
            shutil.copytree(tmp_path / "before", folder)
            there = interrupted(folder, tmp_path / "after", at, monkeypatch, error, for_good=False)
            assert contents(folder) == (files if there else {**contents(tmp_path / "after"), "metrics.json": b"{}"})
            assert not list(folder.glob(".writing-*"))
        if not there:
            break
        moments += 1
        folder = tmp_path / f"killed{at}"
        shutil.copytree(tmp_path / "before", folder)
        assert interrupted(folder, tmp_path / "after", at, monkeypatch, KeyboardInterrupt, for_good=True)
        model = load(folder)
        found = states(model)
        # The language in question is there as before, as after, or, for the moment, not at all.
        rest = found.pop(TOUCHED, None)
        if change == "the only language":
            continue
        assert rest is None or any(same(rest, each.get(TOUCHED)) for each in (old, new))
        assert set(model.languages) - {TOUCHED} == set(CODES) - {TOUCHED}
        for part, state in found.items():
            assert_same_state(state, new[part])
    assert moments >= 3


def same(one: dict[str, Tensor], other: dict[str, Tensor] | None) -> bool:
    return other is not None and one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_disks_without_second_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*args: Any, **more: Any) -> None:
        raise OSError("not here")

    monkeypatch.setattr(os, "link", link)
    test_every_moment("other rows", tmp_path, monkeypatch)
