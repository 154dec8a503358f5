"""Packs to and from the Hub, whose client is a stand-in here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, OfflineModeIsEnabled

from tests.packs.samples import samples, write
from xmodular.errors import PackError
from xmodular.packs import push_pack, read_pack


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What was asked of the Hub."""
    made: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def __init__(self, token: str | None = None) -> None:
            self.token = token

        def create_repo(self, repo_id: str, **more: Any) -> str:
            made.append(("create_repo", {"repo_id": repo_id, "token": self.token, **more}))
            return f"https://example.org/{repo_id}"

        def upload_folder(self, **more: Any) -> None:
            made.append(("upload_folder", more))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return made


def test_push(calls: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    pack = read_pack(write(tmp_path / "pack", samples()["own"]))
    assert push_pack(pack, "me/xmod-own", private=True, token="secret") == "https://example.org/me/xmod-own"
    (created, repository), (uploaded, files) = calls
    assert (created, uploaded) == ("create_repo", "upload_folder")
    assert repository == {"repo_id": "me/xmod-own", "token": "secret", "private": True, "exist_ok": True}
    assert files["folder_path"] == str(tmp_path / "pack")
    assert sorted(files["allow_patterns"]) == sorted(samples()["own"])


def test_nothing_damaged_or_misnamed_is_pushed(calls: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    pack = read_pack(write(tmp_path / "pack", samples()["own"]))
    for name in ("xmod-own", "", "a/b/c", "../x", "a b/c", "-a/b"):
        with pytest.raises(PackError, match="no name of a repository"):
            push_pack(pack, name)
    (tmp_path / "pack" / "tokenizer.json").write_text("{}")
    with pytest.raises(PackError, match=r"tokenizer\.json"):
        push_pack(pack, "me/xmod-own")
    assert calls == []


def test_what_the_hub_refuses_is_an_error_with_its_cause(
    calls: list[tuple[str, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = read_pack(write(tmp_path / "pack", samples()["german"]))

    def refuse(*args: Any, **more: Any) -> None:
        raise OfflineModeIsEnabled("no way out\nat all")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(PackError, match=r"me/xmod: no way out$") as caught:
        push_pack(pack, "me/xmod")
    assert isinstance(caught.value.__cause__, OfflineModeIsEnabled)


def test_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def snapshot(repository: str, **more: Any) -> str:
        asked.update(more, repository=repository)
        return str(write(tmp_path / "cache", samples()["german"]))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    pack = read_pack("me/xmod-german", revision="v2", token="secret")
    assert pack.folder == tmp_path / "cache"
    assert (asked["repository"], asked["revision"], asked["token"]) == ("me/xmod-german", "v2", "secret")
    assert sorted(asked["allow_patterns"]) == sorted(samples()["own"])


@pytest.mark.parametrize("error", [OSError("offline"), HFValidationError("bad"), EntryNotFoundError("gone")])
def test_what_the_hub_does_not_give(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(*args: Any, **more: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(PackError, match=f"me/xmod-german, and the Hub does not give it: {error}") as caught:
        read_pack("me/xmod-german")
    assert caught.value.__cause__ is error
