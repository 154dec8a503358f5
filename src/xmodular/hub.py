"""Names on the Hugging Face Hub, with the revision after an "@", and the reasons why a download failed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xmodular.errors import in_one_line


def on_hub(source: str | Path) -> tuple[str, str | None]:
    """The name and the revision of ``owner/name@revision``; a local path has no revision.

    Args:
        source: a name on the Hub, which a branch, tag or commit may follow; or a path.
    """
    name, mark, revision = str(source).partition("@")
    if not mark or not name or not revision or os.path.exists(source):
        return str(source), None
    return name, revision


def hub_source(source: str | Path) -> tuple[str, dict[str, Any]]:
    """A name, and its revision as a keyword for functions that load from the Hub; empty without a revision."""
    name, revision = on_hub(source)
    return name, {} if revision is None else {"revision": revision}


def refusal(source: str | Path, error: BaseException) -> str:
    """Why something cannot be loaded from the Hub, in a sentence that says what to do.

    Args:
        source: the requested name.
        error: the error of the Hub libraries, which may wrap its cause.
    """
    name, revision = on_hub(source)
    kinds = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    said = " ".join(str(each) for each in _chain(error))
    if "GatedRepoError" in kinds:
        return f"{name} is gated: accept its terms on the Hub, and log in with: hf auth login"
    if "RevisionNotFoundError" in kinds or "is not a valid git identifier" in said:
        return f"{name} has no revision {revision or 'of that name'} on the Hub"
    if "RepositoryNotFoundError" in kinds:
        return f"there is no {name} on the Hub, or it is private: if so, log in with: hf auth login"
    reach = {"ConnectionError", "ConnectError", "ConnectTimeout", "Timeout", "TimeoutException", "ReadTimeout"}
    offline = "OfflineModeIsEnabled" in kinds
    if offline or kinds & {*reach, "SSLError", "ProxyError", "LocalEntryNotFoundError"} or "couldn't connect" in said:
        if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"{name} is not in the local cache, and HF_HUB_OFFLINE is set, so the Hub is not used"
        return f"the Hub cannot be reached, and {name} is not in the local cache: check the network, and try again"
    return in_one_line(error).rstrip(".")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
