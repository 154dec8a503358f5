"""Packs to and from the Hub, whose client is a stand-in here."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, OfflineModeIsEnabled

from tests.packs.samples import content_of, samples, sealed, write
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
        with pytest.raises(PackError, match="not the name of a repository"):
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


SHA = "0" * 40


class Hub:
    """A repository on the Hub, with what is asked of it.

    Attributes:
        files: content by name.
        sizes: those that the Hub tells, where they are not those of the files.
        asked: names of the files that were downloaded, and the revision.
    """

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.folder, self.files = folder / SHA, files
        self.sizes: dict[str, int | None] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.tokens: set[str | None] = set()
        self.offline: Exception | None = None

    def model_info(self, repository: str, *, revision: str | None, files_metadata: bool) -> Any:
        if self.offline is not None:
            raise self.offline
        assert files_metadata
        sizes = {name: len(content) for name, content in self.files.items()} | self.sizes
        siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
        return SimpleNamespace(sha=SHA, siblings=siblings)

    def download(self, repository: str, name: str, *, revision: str | None, token: str | None) -> str:
        self.tokens.add(token)
        self.asked.append((name, revision))
        return str(write(self.folder, {name: self.files[name]}) / name)

    def snapshot(
        self,
        repository: str,
        *,
        revision: str | None,
        allow_patterns: list[str],
        token: str | None = None,
        local_files_only: bool = False,
    ) -> str:
        if local_files_only:
            if not self.folder.exists():
                raise FileNotFoundError("nothing in the cache")
            return str(self.folder)
        for name in allow_patterns:
            if not (self.folder / name).exists():
                self.download(repository, name, revision=revision, token=token)
        return str(self.folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path, dict(samples()["own"]))

    def api(token: str | None = None) -> Hub:
        made.tokens.add(token)
        return made

    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", made.download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot)
    return made


def test_fetch(hub: Hub) -> None:
    hub.files["model.safetensors"] = b"never asked for"
    pack = read_pack("me/xmod-own", revision="v2", token="secret")
    pack.check()
    assert pack.folder == hub.folder
    assert hub.asked[0] == ("pack.json", "v2")
    data = ("adapter.safetensors", "embeddings.safetensors", "tokenizer.json")
    assert sorted(hub.asked[1:]) == [(name, SHA) for name in data]  # of the same commit
    assert hub.tokens == {"secret"}


@pytest.mark.parametrize(
    ("size", "words", "asked"),
    [
        ({"pack.json": 1 << 40}, "at most 1,048,576 bytes", 0),
        ({"pack.json": None}, "at most 1,048,576 bytes", 0),
        ({"adapter.safetensors": 1 << 40}, "adapter.safetensors: the Hub has 1099511627776 bytes", 1),
        ({"tokenizer.json": None}, "tokenizer.json: the Hub has no bytes", 1),
    ],
)
def test_files_that_are_too_large_are_not_downloaded(
    size: dict[str, int | None], words: str, asked: int, hub: Hub
) -> None:
    hub.sizes = size
    with pytest.raises(PackError, match=re.escape(words)):
        read_pack("me/xmod-own")
    assert [name for name, _ in hub.asked] == ["pack.json"][:asked]


def test_a_pack_json_that_wants_too_much_stops_the_download(hub: Hub) -> None:
    content = content_of("own")
    content["files"]["adapter.safetensors"]["size"] = 1 << 40
    hub.files["pack.json"] = sealed(content)
    hub.sizes = {"adapter.safetensors": 1 << 40}  # as it says
    with pytest.raises(PackError, match=r"adapter\.safetensors has 1,099,511,627,776 bytes"):
        read_pack("me/xmod-own")
    hub.files["pack.json"] = b"{}"
    with pytest.raises(PackError, match="its format is not"):
        read_pack("me/xmod-own")
    del hub.files["pack.json"]
    with pytest.raises(PackError, match=r"it has no pack\.json"):
        read_pack("me/xmod-own")
    assert [name for name, _ in hub.asked] == ["pack.json"] * 2


def test_a_repository_that_changes_meanwhile(hub: Hub) -> None:
    hub.folder = hub.folder.with_name("1" * 40)
    with pytest.raises(PackError, match="changed on the Hub"):
        read_pack("me/xmod-own")


@pytest.mark.parametrize("error", [OSError("offline"), HFValidationError("bad"), RuntimeError("gone")])
def test_what_the_hub_does_not_give(error: Exception, hub: Hub) -> None:
    hub.offline = error
    with pytest.raises(PackError, match=f"me/xmod-own, and the Hub cannot provide it: {error}") as caught:
        read_pack("me/xmod-own")
    assert caught.value.__cause__ is error
    write(hub.folder, samples()["own"])  # fetched before
    assert read_pack("me/xmod-own").folder == hub.folder


def test_a_download_that_breaks_off(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    error = EntryNotFoundError("gone")

    def snapshot(*args: Any, **more: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(PackError, match="language pack me/xmod-own cannot be downloaded: gone") as caught:
        read_pack("me/xmod-own")
    assert caught.value.__cause__ is error
