"""Replace a model in its own folder: configuration, weights and tokenizers change together or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xmodular.files import working_in
from xmodular.outputs import READY, held, is_weights, move_ready, own_tokenizers, remove

_CONFIG = "config.json"


@contextmanager
def replaced_in(folder: Path) -> Iterator[Path]:
    """Yield a folder whose files then replace those of `folder`; old weights and tokenizers are removed.

    An error or Ctrl-C leaves the folder as it was. A process that is killed while files are renamed leaves a model
    that loads: the old one, the new one, or one with the languages that both have, whose weights are in the old
    file as in the new one. The next process that locks the folder completes the change.

    Raises:
        OSError: the folder cannot be written.
    """
    with held(folder), working_in(folder) as work:
        new, old = work / "new", work / "old"
        new.mkdir()
        old.mkdir()
        yield new
        names = [path.name for path in new.iterdir()]
        before = own_tokenizers(folder)
        gone = [path.name for path in folder.iterdir() if is_weights(path.name) or path.name in before]
        gone = [name for name in gone if name not in names]
        common = json.dumps(_common(folder, new), indent=2)
        (work / _CONFIG).write_text(common, encoding="utf-8")
        (work / "gone.json").write_text(json.dumps(gone), encoding="utf-8")
        for name in (*names, *gone):
            if (folder / name).exists():
                _keep(folder / name, old / name)
        ready = folder / READY
        try:
            os.replace(work, ready)
            move_ready(folder)
            os.replace(ready, work)
        except BaseException:
            kept = (ready if ready.exists() else work) / "old"
            for name in (*names, *gone):
                if (kept / name).exists():
                    os.replace(kept / name, folder / name)
                else:
                    (folder / name).unlink(missing_ok=True)
            raise
        finally:
            remove(ready)


def _common(folder: Path, new: Path) -> dict[str, Any]:
    """A configuration that fits the weights of both: the new one, with the languages that both have alike."""
    before, after = (json.loads((each / _CONFIG).read_text(encoding="utf-8")) for each in (folder, new))
    own = [content.get("vocabularies") or {} for content in (before, after)]

    def alike(code: str) -> bool:
        file = f"tokenizer.{code}.json"
        return own[0].get(code) == own[1].get(code) and _content(folder / file) == _content(new / file)

    both = [code for code in after["languages"] if code in before["languages"]]
    # A model needs a language, be it with the shared vocabulary for a moment.
    languages = [code for code in both if alike(code)] or both[:1]
    default = after.get("default_language")
    return {
        **after,
        "languages": languages,
        "vocabularies": {code: rows for code, rows in own[1].items() if code in languages and alike(code)},
        "default_language": default if default in languages else None,
    }


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _keep(path: Path, copy: Path) -> None:
    """A second name for a file, or a copy if the disk does not support that."""
    try:
        os.link(path, copy)
    except OSError:
        shutil.copy2(path, copy)
