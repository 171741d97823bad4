"""The source of a module shows how each name is bound, without comments, and without executing anything."""

from __future__ import annotations

import pytest

from workflow.log import source_names

SOURCE = """
import os.path as p
from a.b import c as d, e
from . import near
N: int = 1
A, (B, C.x) = make(N)
N2 = M2 = -60 * 2
T = {"a": N}
T["b"] = A
T.update(c=B)
W += N
if p:
    late = 1
else:
    late = 2
for each in T:
    with lock() as held:
        inner = each
try:
    import fast
except ImportError:
    fast = None
del gone
@deco(N)
def f():
    global state
    local = 1
async def g(): ...
@final
class K(Base, metaclass=Meta):
    '''Text.'''
    attribute = N
    class Inner:
        deep = 1
    def m(self): ...
"""


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("", "p d e near N A B C N2 M2 T W late each held inner fast gone f g K"),
        ("K", "attribute Inner m"),
        ("K.Inner", "deep"),
    ],
)
def test_names_of_each_scope(scope: str, names: str) -> None:
    assert set(source_names.read(SOURCE).scopes[scope]) == set(names.split())


def test_names_that_functions_bind_again() -> None:
    assert source_names.read(SOURCE).rebound == {"state"}


@pytest.mark.parametrize(
    ("name", "texts", "uses", "is_literal"),
    [
        ("N", 1, {"int"}, True),
        ("N2", 1, {"N2", "M2"}, True),
        ("T", 3, {"T", "N", "A", "B"}, False),
        ("late", 2, {"late"}, False),
        ("fast", 2, {"fast"}, False),
        ("f", 1, {"deco", "N"}, False),
        ("K", 1, {"final", "Base", "Meta"}, False),
        ("A", 1, {"A", "B", "C", "make", "N"}, False),
        ("g", 1, set(), False),
    ],
)
def test_binding_of_a_name(name: str, texts: int, uses: set[str], is_literal: bool) -> None:
    binding = source_names.read(SOURCE).scopes[""][name]
    assert (len(binding.texts), set(binding.uses) - {name}, binding.is_literal) == (texts, uses - {name}, is_literal)


def test_import_names_only_what_it_binds() -> None:
    names = source_names.read(SOURCE).scopes[""]
    assert [names[name].texts for name in ("p", "d", "near")] == [
        ["import os.path"],
        ["from a.b import c"],
        ["from . import near"],
    ]


def test_source_with_an_error_raises() -> None:
    with pytest.raises(SyntaxError):
        source_names.read("def f(:")
