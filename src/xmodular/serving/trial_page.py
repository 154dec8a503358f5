"""The page on which models are tried: one file, in which nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path


def trial_page() -> tuple[str, str]:
    """The page, and the policy by which a browser runs its own script and style and talks to this server alone."""
    text = (Path(__file__).parent / "trial.html").read_text(encoding="utf-8")
    script, style = (_hash(text, tag) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _hash(text: str, tag: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    assert found is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"
