"""The verbs for language packs: save, install, verify, list, remove."""

from xmodular.pack_verbs.pack_changes import pack_install, pack_remove, pack_save
from xmodular.pack_verbs.pack_checks import PackList, Verification, pack_list, pack_verify

__all__ = ["PackList", "Verification", "pack_install", "pack_list", "pack_remove", "pack_save", "pack_verify"]
