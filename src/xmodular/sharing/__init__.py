"""Language packs at work: save a language of a model, install one, verify, list, remove."""

from xmodular.sharing.checking import PackList, Verification, pack_list, pack_verify
from xmodular.sharing.verbs import pack_install, pack_remove, pack_save

__all__ = ["PackList", "Verification", "pack_install", "pack_list", "pack_remove", "pack_save", "pack_verify"]
