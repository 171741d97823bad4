"""Operators that mutmut lacks: drop a statement, return None, negate a condition that has no operator.

Each operator has the form of mutmut's own: it maps a node of libcst to the nodes that can replace it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import libcst as cst


def drop_statement(node: Any) -> Iterator[Any]:
    """Replace a call, an await or a yield whose result is unused by `pass`."""
    if isinstance(node.value, (cst.Call, cst.Await, cst.Yield)):
        yield cst.Pass()


def return_none(node: Any) -> Iterator[Any]:
    """Return None instead of a value, unless the value is False, which has the same effect in a condition."""
    if node.value is not None and not (isinstance(node.value, cst.Name) and node.value.value in ("None", "False")):
        yield node.with_changes(value=cst.Name("None"), whitespace_after_return=cst.SimpleWhitespace(" "))


def negated(condition: Any) -> Iterator[Any]:
    """Negate the condition of an `if` or a `while`, unless mutmut changes the operator in it."""
    if isinstance(condition, (cst.Name, cst.Attribute, cst.Call, cst.Await, cst.Subscript)):
        operand = condition.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        yield cst.UnaryOperation(operator=cst.Not(), expression=operand)


OPERATORS: Final[tuple[tuple[Any, Callable[[Any], Iterator[Any]]], ...]] = (
    (cst.Expr, drop_statement),
    (cst.Return, return_none),
)
"""The type of the changed nodes, and the operator."""

CONDITIONAL: Final = (cst.If, cst.While, cst.CompIf)
"""Nodes whose attribute `test` is changed by `negated`."""
