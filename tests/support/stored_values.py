"""Reads values and blobs of a run for `checker`, and checks that they are complete. Imports nothing of the library."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from tests.support.stored import BrokenRuleError, Fields, Objects

_PARTS = re.compile(rb"rwf-parts-1 (\d+)\n")
"""The beginning of a list of parts, with the size of its header."""

_REFERENCE = re.compile(rb"\x8c@([0-9a-f]{64})\x94?\x86\x94?R")
"""In a pickle, a call with two arguments, the last of them a sha256: how a reference to a stored object is written."""


class StoredValues:
    """The values of one run.

    Args:
        objects: all objects of the store.
        folder: the folder of the run.
    """

    def __init__(self, objects: Objects, folder: str) -> None:
        self._objects = objects
        self._folder = folder
        self._whole: set[str] = set()

    def value(self, key: str, value: Fields, record: Fields) -> bytes:
        """Return the pickle of a value; check that it and all objects that it refers to are complete."""
        if value.get("inline") is not None:
            data = base64.b64decode(value["inline"], validate=True)
        elif value.get("blob"):
            data = self.pickle(key, value["blob"], record)
        else:
            raise BrokenRuleError("I5", key, "the value is neither in the record nor in a blob", record)
        if len(data) != value.get("size", 0):
            raise BrokenRuleError("I5", key, f"the value has {len(data)} bytes, but another size is recorded", record)
        self.references(key, data, record)
        return data

    def references(self, key: str, data: bytes, record: Fields) -> None:
        """Check that all objects to which a pickle refers are complete."""
        for found in _REFERENCE.finditer(data):
            name = found[1].decode()
            if name not in self._whole:
                self.references(key, self.pickle(key, name, record), record)

    def pickle(self, key: str, name: str, record: Fields) -> bytes:
        """Return a pickle that is stored as a blob, or in parts that a list names."""
        data = self.blob(key, name, record)
        begin = _PARTS.match(data)
        if begin is None:
            return data
        inline = begin.end() + int(begin[1])
        listed = json.loads(data[begin.end() : inline])
        whole = bytearray()
        for start, size, part in listed["parts"]:
            gap = start - len(whole)
            whole += data[inline : inline + gap]
            inline += gap
            content = self.blob(key, part, record)
            if gap < 0 or len(whole) != start or len(content) != size:
                raise BrokenRuleError("I5", key, f"the part {part} does not fit into its place in {name}", record)
            whole += content
        whole += data[inline:]
        if len(whole) != listed["size"]:
            raise BrokenRuleError(
                "I5", key, f"the parts in {name} have {len(whole)} bytes, not {listed['size']}", record
            )
        return bytes(whole)

    def blob(self, key: str, name: str, record: Fields) -> bytes:
        """Return a blob whose SHA-256 is its name."""
        blob = f"{self._folder}/blobs/{name}"
        data = self._objects.get(blob)
        if data is None:
            raise BrokenRuleError("I5", key, f"names the blob {blob}, which is missing", record)
        if name not in self._whole:
            if hashlib.sha256(data).hexdigest() != name:
                raise BrokenRuleError(
                    "I5", key, f"names the blob {blob}, whose {len(data)} bytes have another SHA-256", record
                )
            self._whole.add(name)
        return data
