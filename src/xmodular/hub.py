"""Names on the Hugging Face Hub, with the revision behind an "@", and what it means that it gives something not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xmodular.errors import in_one_line


def on_hub(source: str | Path) -> tuple[str, str | None]:
    """The name and the revision of ``owner/name@revision``; a folder's name is itself, and without a revision.

    Args:
        source: a name on the Hub, behind which a branch, tag or commit may stand; or a path.
    """
    name, mark, revision = str(source).partition("@")
    if not mark or not name or not revision or os.path.exists(source):
        return str(source), None
    return name, revision


def hub_source(source: str | Path) -> tuple[str, dict[str, Any]]:
    """A name, and the keyword that says its revision to what loads from the Hub; none where no revision is named."""
    name, revision = on_hub(source)
    return name, {} if revision is None else {"revision": revision}


def refusal(source: str | Path, error: BaseException) -> str:
    """Why the Hub does not give something, in a sentence with what to do.

    Args:
        source: the name that was asked for.
        error: of the libraries that speak with the Hub, which wrap the cause in others.
    """
    name, revision = on_hub(source)
    kinds = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    said = " ".join(str(each) for each in _chain(error))
    if "GatedRepoError" in kinds:
        return f"{name} is gated: accept its terms on the Hub, and log in there with: hf auth login"
    if "RevisionNotFoundError" in kinds or "is not a valid git identifier" in said:
        return f"{name} has no revision {revision or 'of that name'} on the Hub"
    if "RepositoryNotFoundError" in kinds:
        return f"there is no {name} on the Hub, or it is private: then log in with: hf auth login"
    reach = {"ConnectionError", "ConnectError", "ConnectTimeout", "Timeout", "TimeoutException", "ReadTimeout"}
    offline = "OfflineModeIsEnabled" in kinds
    if offline or kinds & {*reach, "SSLError", "ProxyError", "LocalEntryNotFoundError"} or "couldn't connect" in said:
        if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"{name} was not fetched before, and the Hub is not asked: HF_HUB_OFFLINE is set"
        return f"the Hub cannot be reached, and {name} was not fetched before: look at the network, and try again"
    return in_one_line(error).rstrip(".")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
