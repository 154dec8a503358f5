"""Packs verified and listed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.packs.samples import content_of, samples, sealed, small_model, write
from xmodular import pack_list, pack_verify
from xmodular.errors import ConfigurationError, DataError
from xmodular.packs import read_pack


def shown(answer: Any) -> str:
    console = Console(width=160, file=io.StringIO())
    console.print(answer.table())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_sound_and_fitting(tmp_path: Path) -> None:
    write(tmp_path / "pack", samples()["german"])
    model = small_model()
    model.save_pretrained(tmp_path / "model")
    for pack in (tmp_path / "pack", str(tmp_path / "pack"), read_pack(tmp_path / "pack")):
        alone = pack_verify(pack)
        assert alone.ok
        assert alone.misfits is None
        for other in (model, tmp_path / "model"):
            verified = pack_verify(pack, model=other)
            assert verified.ok
            assert verified.misfits == ()
            assert "fits" in shown(verified)


def test_not_fitting(tmp_path: Path) -> None:
    write(tmp_path / "pack", samples()["german"])
    verified = pack_verify(tmp_path / "pack", model=small_model(seed=1, intermediate_size=14))
    assert not verified.ok
    assert verified.damage is None
    assert [misfit.part for misfit in verified.misfits or ()] == ["shape", "frame", "words"]
    assert "intermediate_size is 12 in the pack's base and 14 in the model" in shown(verified)
    with pytest.raises(ConfigurationError, match="no model"):
        pack_verify(tmp_path / "pack", model=tmp_path)


def test_damaged(tmp_path: Path) -> None:
    folder = write(tmp_path / "pack", {**samples()["german"], "adapter.safetensors": b"short"})
    verified = pack_verify(folder, model=small_model())
    assert not verified.ok
    assert verified.pack is not None
    assert "5 bytes" in (verified.damage or "")
    assert verified.misfits is None  # there is no point
    (folder / "pack.json").write_text("{")
    verified = pack_verify(folder)
    assert not verified.ok
    assert verified.pack is None
    assert "pack.json is not valid" in " ".join(shown(verified).split())


def test_list(tmp_path: Path) -> None:
    for name, files in samples().items():
        write(tmp_path / name, files)
    write(tmp_path / "torn", {**samples()["german"], "adapter.safetensors": b""})
    write(tmp_path / "broken", {"pack.json": b"["})
    write(tmp_path / "no-pack", {"README.md": b"hello"})
    write(tmp_path / ".german-half", samples()["german"])  # a write that was killed
    (tmp_path / "a file").write_text("x")
    listed = pack_list(tmp_path)
    names = [Path(row.source).name for row in listed.rows]
    assert names == ["broken", "german", "own", "swahili", "torn"]
    assert [row.ok for row in listed.rows] == [False, True, True, True, False]
    text = shown(listed)
    assert text.count("damaged") == 2
    assert "9 rows" in text
    assert [row.pack.language for row in pack_list(tmp_path / "own").rows if row.pack] == ["myown"]
    assert pack_list(tmp_path / "no-pack").rows == ()
    with pytest.raises(DataError, match="no folder"):
        pack_list(tmp_path / "nothing")


def test_markup_in_a_pack_is_shown_as_it_is(tmp_path: Path) -> None:
    names = {"english": "[red]x[/red] [link=https://example.org]y", "native": None, "bcp47": None}
    manifest = sealed({**content_of("german"), "names": names, "licence": "[bold]"})
    write(tmp_path / "pack", {**samples()["german"], "pack.json": manifest})
    assert "[red]x[/red]" in shown(pack_verify(tmp_path / "pack"))
    assert "[bold]" in shown(pack_list(tmp_path))
