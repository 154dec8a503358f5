"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_beside(target: Path) -> Iterator[Path]:
    """Yield a fresh folder on the same disk; on success, what lies in it replaces what has its name in `target`.

    Args:
        target: the folder to fill; made if it is not there. Its other files stay.
    """
    target.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=target))
    try:
        yield beside
        for path in sorted(beside.iterdir()):
            os.replace(path, target / path.name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, beside and then renamed."""
    with written_beside(path.parent) as folder:
        text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        (folder / path.name).write_text(text, encoding="utf-8")
