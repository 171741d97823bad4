"""The error about a damaged object: its key, what is wrong, and how a user repairs the store."""

from __future__ import annotations

from workflow.errors import CorruptLogError


def damaged(key: str, why: str) -> CorruptLogError:
    """Return the error for an object that exists, but whose content is not what the library wrote.

    Args:
        key: the key of the object.
        why: what is wrong with it.
    """
    return CorruptLogError(f"{key} is damaged: {why}; {_repair(key)}", key=key)


def _repair(key: str) -> str:
    if "/snapshot/" in key:
        return "restore it from a copy, or delete it: the segments of the log contain the same"
    if key.startswith("index/"):
        return "restore it from a copy, or delete it: workflow.garbage.collect(store) writes it again"
    return "restore it from a copy"
