"""Makes the mutants of a module: pure.

What only types or imports need is not changed, nor is a docstring. Texts for people, such as errors and log lines, keep
their wording and length. An error without its text, or a missing log line, is a mutant.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

from dev.mutants import extra_operators
from dev.mutants.mutant import Key, Mutant

OPERATORS: Final = (*mutation_operators, *extra_operators.OPERATORS)
SKIPPED: Final = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom)
TYPING_CALLS: Final = ("TypeVar", "NewType", "ParamSpec")
CODECS: Final = ("utf-8", "ascii")
SENTENCE: Final = re.compile("[a-z]+[,:;]? [a-z(]+")
"""What only texts for people contain: two words."""

NEVER_REPLACED: Final = ("len", "isinstance", "issubclass", "cast")
"""Calls whose arguments are not dropped: each test of the line notices it. The arguments themselves are changed."""


@dataclass(frozen=True)
class Place:
    """Where a node is.

    Attributes:
        names: the names of the classes and functions around it.
        function: the innermost function; None outside of functions.
        statement: the innermost statement.
        in_error: whether it is a part of a `raise` statement, or the message of an `assert`.
    """

    names: tuple[str, ...]
    function: Any
    statement: Any
    in_error: bool = False


def mutants(module: str, source: str) -> list[Mutant]:
    """Return the mutants of a module in the order of the source.

    Args:
        module: the path of the module from the root of the checkout.
        source: the text of the module.
    """
    wrapper = MetadataWrapper(cst.parse_module(source))
    positions, spans = wrapper.resolve(PositionProvider), wrapper.resolve(ByteSpanPositionProvider)
    tree, encoded = wrapper.module, source.encode()
    found: dict[Key, Mutant] = {}
    for node, place in _nodes(tree, Place((), None, tree)):
        for changed, replacement in _replacements(node, place):
            if isinstance(changed, cst.BaseCompoundStatement):
                code = tree.deep_replace(changed, replacement).code
            else:  # the same, but much faster
                start, end = spans[changed].start, spans[changed].start + spans[changed].length
                code = (encoded[:start] + tree.code_for_node(replacement).encode() + encoded[end:]).decode()
            if not _is_valid(code):
                continue
            key = Key(module, ".".join(place.names) or "<module>", diff(source, code))
            simple = isinstance(place.statement, cst.SimpleStatementLine)
            last = positions[place.statement if simple else node].end.line
            lines = range(positions[place.statement].start.line, last + 1)
            found[key] = Mutant(key, lines, _lines(positions[place.function]) if place.function else range(0), code)
    return list(found.values())


def _lines(position: Any) -> range:
    return range(position.start.line, position.end.line + 1)


def diff(before: str, after: str) -> str:
    """Return the removed and added lines of one change with their signs, without indentation."""
    old, new = ([line.strip() for line in text.splitlines()] for text in (before, after))
    start = _equal_lines(old, new)
    end = _equal_lines(old[start:][::-1], new[start:][::-1])
    removed, added = old[start : len(old) - end], new[start : len(new) - end]
    return "\n".join([f"- {line}" for line in removed] + [f"+ {line}" for line in added])


def _equal_lines(first: list[str], second: list[str]) -> int:
    """Return the number of equal lines at the beginning of both."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(first), len(second)))


def _is_valid(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def _nodes(node: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    """Yield each node that may be changed, with its place."""
    if isinstance(node, SKIPPED) or _only_for_types(node) or (place.in_error and isinstance(node, cst.Slice)):
        return
    if isinstance(node, (cst.SimpleStatementLine, cst.BaseCompoundStatement)):
        place = replace(place, statement=node)
    if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
        function = node if isinstance(node, cst.FunctionDef) else None
        place = replace(place, names=(*place.names, node.name.value), function=function)
    if isinstance(node, cst.Raise):
        place = replace(place, in_error=True)
    yield node, place
    children = node.children
    if _is_log_line(node):
        return
    if isinstance(node, cst.Call) and _called(node) == "cast":
        children = node.args[1:]
    for child in children:
        if _is_check(child):
            continue
        is_message = isinstance(node, cst.Assert) and child is node.msg
        yield from _nodes(child, replace(place, in_error=True) if is_message else place)


def _replacements(node: Any, place: Place) -> Iterator[tuple[Any, Any]]:
    """Yield what is changed at a node, and by what it is replaced."""
    if isinstance(node, cst.Call) and _called(node) in NEVER_REPLACED:
        return
    for kind, operator in OPERATORS:
        if isinstance(node, kind) and not (operator is operator_string and _is_wording(node, place)):
            yield from ((node, replacement) for replacement in operator(node) if not _has_no_effect(node, replacement))
    if isinstance(node, extra_operators.CONDITIONAL):
        yield from ((node.test, replacement) for replacement in extra_operators.negated(node.test))


def _is_check(node: Any) -> bool:
    """Return whether a node is the `strict=True` of a zip: it can only be noticed together with another fault."""
    return isinstance(node, cst.Arg) and node.keyword is not None and _is_name(node.keyword, "strict")


def _has_no_effect(node: Any, replacement: Any) -> bool:
    """Return whether a change drops a check, or is None instead of False, which has the same effect in a condition."""
    if isinstance(node, cst.Call) and any(_is_check(each) and each not in replacement.args for each in node.args):
        return True
    if isinstance(node, cst.Call) and len(node.args) == len(replacement.args):
        pairs = zip(node.args, replacement.args, strict=True)
        return any(old is not new and _is_name(old.value, "False") for old, new in pairs)
    is_assignment = isinstance(node, (cst.Assign, cst.AnnAssign))
    return is_assignment and _is_name(node.value, "False") and _is_name(replacement.value, "None")


def _is_name(node: Any, name: str) -> bool:
    return isinstance(node, cst.Name) and node.value == name


def _is_wording(string: Any, place: Place) -> bool:
    """Return whether a string is a text for people, or the name of a codec, whose case has no meaning."""
    if place.in_error or not isinstance(string, cst.SimpleString):
        return place.in_error
    return string.raw_value in CODECS or SENTENCE.search(string.raw_value) is not None


def _only_for_types(node: Any) -> bool:
    """Return whether a statement defines a type or a logger, or a name that other modules import.

    The members of an enumeration that is not a `str` are such names: their values have no meaning.
    """
    match node:
        case cst.ClassDef(bases=[cst.Arg(value=cst.Name(value="Enum"))]):
            return True
        case cst.If(test=cst.Name(value="TYPE_CHECKING")):
            return True
        case cst.AnnAssign(annotation=cst.Annotation(annotation=cst.Name(value="TypeAlias"))):
            return True
        case cst.Assign(value=cst.Call()):
            return _called(node.value) in TYPING_CALLS
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value="__all__" | "logger"))]):
            return True
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))]):
            return name[0].isupper() and not name.isupper()
    return False


def _is_log_line(node: Any) -> bool:
    """Return whether a statement only logs. It can be dropped, but its wording is not changed."""
    match node:
        case cst.Expr(value=cst.Call(func=cst.Attribute(value=cst.Name(value="logger")))):
            return True
    return False


def _called(call: Any) -> str | None:
    called = call.func
    if isinstance(called, cst.Attribute) and _is_name(called.value, "typing"):
        called = called.attr
    return str(called.value) if isinstance(called, cst.Name) else None
