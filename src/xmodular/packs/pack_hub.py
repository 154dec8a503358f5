"""Packs by folder or name: opened on disk, downloaded from the Hugging Face Hub, uploaded to it."""

from __future__ import annotations

import re
from pathlib import Path

from xmodular.errors import PackError, listed
from xmodular.files import is_missing_folder
from xmodular.hub import on_hub, refusal
from xmodular.packs import manifest
from xmodular.packs.manifest import ADAPTER, EMBEDDINGS, FILES, MANIFEST, TOKENIZER
from xmodular.packs.pack import Pack, of_manifest

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*", re.ASCII)


def read_pack(source: str | Path, *, revision: str | None = None, token: str | None = None) -> Pack:
    """Open a language pack. Its `pack.json` is checked now; other files when they are used, or by `Pack.check`.

    Args:
        source: a folder, or the name of a repository on the Hub, whose `pack.json` is downloaded and
            checked first, then the files it names, if their sizes on the Hub are as it says.
        revision: branch, tag or commit on the Hub.
        token: token for the Hub; default: that of the current login.

    Raises:
        PackError: there is no pack, its `pack.json` is not valid, files on the Hub have other sizes, or the download
            fails.
    """
    folder = Path(source)
    if not folder.exists():
        name, pinned = on_hub(source)
        folder = _fetch(name, revision or pinned, token)
    elif not folder.is_dir():
        raise PackError(f"{source} is a file; a language pack is a folder with a {MANIFEST}.")
    return of_manifest(folder, manifest.read(folder / MANIFEST))


def push_pack(pack: Pack, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a pack to a repository on the Hub, which is created if needed.

    Args:
        pack: the pack, which is checked first.
        repo_id: such as "name/xmod-gsw".
        private: make a new repository private.
        token: token for the Hub; default: that of the current login.

    Returns:
        Address of the repository.

    Raises:
        PackError: the pack is damaged, the name is not valid, or the Hub refuses the upload.
    """
    check_repository(repo_id)
    pack.check()
    import huggingface_hub

    api = huggingface_hub.HfApi(token=token)
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=str(pack.folder),
            allow_patterns=list(FILES),
            delete_patterns=[TOKENIZER, EMBEDDINGS],  # those of an older pack there, not the uploaded ones
            commit_message=f"Language pack {pack.language}",
        )
    except (OSError, ValueError) as error:
        raise PackError(f"The Hub refused to store the pack as {repo_id}: {_first(error)}") from error
    return str(url)


def check_repository(repo_id: str) -> None:
    """Raises PackError if a name cannot be that of a repository on the Hub."""
    if not _REPOSITORY.fullmatch(repo_id):
        raise PackError(f"{repo_id!r} is not the name of a repository, such as name/xmod-gsw.")


def _fetch(repository: str, revision: str | None, token: str | None) -> Path:
    """Download a pack's files, `pack.json` first: files that it does not list are not downloaded.

    Returns:
        Their folder.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise PackError(
            f"There is no language pack {repository!r}: no such folder, and not a name such as name/xmod-gsw."
        )
    if is_missing_folder(repository):
        raise PackError(f"There is no folder {repository}.")
    import huggingface_hub

    try:
        info = huggingface_hub.HfApi(token=token).model_info(repository, revision=revision, files_metadata=True)
    except Exception as error:  # those of the connection have no class in common
        return _cached(repository, revision, error)
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    if MANIFEST not in sizes:
        raise PackError(f"{repository} on the Hub is not a language pack: it has no {MANIFEST}.")
    if not 0 <= _size(sizes[MANIFEST]) <= manifest.MAX_MANIFEST:
        raise PackError(f"{repository} on the Hub: {MANIFEST} may have at most {manifest.MAX_MANIFEST:,} bytes.")
    try:
        path = Path(huggingface_hub.hf_hub_download(repository, MANIFEST, revision=revision, token=token))
        if path.parent.name != info.sha:
            raise PackError(f"{repository} changed on the Hub while it was read: try again.")
        pack = of_manifest(path.parent, manifest.read(path))
        wrong = pack.implausible() or [
            f"{name}: the Hub has {sizes.get(name) or 'no'} bytes, {MANIFEST} says {record.size}"
            for name, record in pack.files.items()
            if _size(sizes.get(name)) != record.size
        ]
        if wrong:
            raise PackError(f"The language pack {repository} is damaged, and not downloaded:{listed(wrong)}")
        folder = huggingface_hub.snapshot_download(
            repository, revision=info.sha, token=token, allow_patterns=[MANIFEST, *pack.files]
        )
    except PackError:
        raise
    except Exception as error:
        raise PackError(f"The language pack {repository} cannot be downloaded: {_first(error)}") from error
    return Path(folder)


def _cached(repository: str, revision: str | None, error: Exception) -> Path:
    """The folder of a pack that was fetched before."""
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=[MANIFEST, ADAPTER], local_files_only=True
        )
    except Exception:
        said = refusal(f"{repository}@{revision}" if revision else repository, error)
        raise PackError(f"There is no folder {repository}, and the Hub cannot provide it: {said}.") from error
    return Path(folder)


def _size(size: int | None) -> int:
    """A file's size on the Hub; -1 if unknown."""
    return size if type(size) is int else -1


def _first(error: Exception) -> str:
    """The first line of an error's message, which may run to a page."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
