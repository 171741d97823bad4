"""Reads from the source of a module how each of its names is bound. Pure: no code of the module is executed.

Source is equal in every process that has the same file, and the state of a module is not. So `code_digest` compares
the expressions from which a module makes its constants and objects, not the objects.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_LITERALS: Final = (
    ast.Constant, ast.UnaryOp, ast.BinOp, ast.unaryop, ast.operator, ast.Tuple, ast.expr_context,
)  # fmt: skip


@dataclass(slots=True)
class Binding:
    """How a module or a class binds one of its names.

    Attributes:
        texts: a text of each statement that binds the name, without comments and line numbers.
        uses: the names that these statements use.
        is_literal: whether the only statement assigns a literal, for example `3`, `"x"` or `60 * 60`.
    """

    texts: list[str] = field(default_factory=list)
    uses: dict[str, None] = field(default_factory=dict)
    is_literal: bool = False


@dataclass(frozen=True, slots=True)
class SourceNames:
    """The names that the source of a module binds.

    Attributes:
        scopes: qualified name of a class, or an empty string for the module -> its names -> how they are bound.
        rebound: names that a function of the module declares as `global`, so that each process has its own.
    """

    scopes: Mapping[str, Mapping[str, Binding]]
    rebound: frozenset[str]


def read(source: str) -> SourceNames:
    """Return the names that the source of a module binds.

    Raises:
        SyntaxError: this version of Python cannot read the source.
    """
    module = ast.parse(source)
    scopes: dict[str, dict[str, Binding]] = {}
    _Scope(scopes, "").visit_body(module.body)
    rebound = {name for node in ast.walk(module) if isinstance(node, ast.Global) for name in node.names}
    return SourceNames(scopes, frozenset(rebound))


class _Scope(ast.NodeVisitor):
    """Collects the bindings of a module or a class. Bodies of functions are not entered."""

    def __init__(self, scopes: dict[str, dict[str, Binding]], qualname: str) -> None:
        self._scopes = scopes
        self._qualname = qualname
        self._names = scopes.setdefault(qualname, {})

    def visit_body(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._bind(node.name, node.decorator_list)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._bind(node.name, node.decorator_list)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name, [*node.decorator_list, *node.bases, *node.keywords])
        inner = f"{self._qualname}.{node.name}" if self._qualname else node.name
        _Scope(self._scopes, inner).visit_body(node.body)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.asname or alias.name.partition(".")[0], f"import {alias.name}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._add(alias.asname or alias.name, f"from {'.' * node.level}{node.module or ''} import {alias.name}")

    def visit_Assign(self, node: ast.Assign) -> None:
        self._bind_targets(node.targets, [*node.targets, node.value], node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._bind_targets([node.target], [node.annotation, *([node.value] if node.value else [])], node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._bind_targets([node.target], [node])

    def visit_Delete(self, node: ast.Delete) -> None:
        self._bind_targets(node.targets, [node])

    def visit_For(self, node: ast.For) -> None:
        self._bind_targets([node.target], [node.target, node.iter])
        self.visit_body([*node.body, *node.orelse])

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if item.optional_vars is not None:
                self._bind_targets([item.optional_vars], [item])
        self.visit_body(node.body)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._bind_targets([node.target], [node.value])

    def visit_Expr(self, node: ast.Expr) -> None:
        """Take a call such as `TABLE.update(...)` as a binding of `TABLE`."""
        if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            self._bind_targets([node.value.func.value], [node.value])

    def _bind_targets(
        self, targets: Iterable[ast.expr], parts: Iterable[ast.AST], literal: ast.expr | None = None
    ) -> None:
        parts = list(parts)
        for target in targets:
            for name in _base_names(target):
                self._bind(name, parts)
                is_literal = literal is not None and all(isinstance(each, _LITERALS) for each in ast.walk(literal))
                self._names[name].is_literal = is_literal and len(self._names[name].texts) == 1

    def _bind(self, name: str, parts: Iterable[ast.AST]) -> None:
        parts = list(parts)
        uses = [each.id for part in parts for each in ast.walk(part) if isinstance(each, ast.Name)]
        self._add(name, " ".join(map(ast.dump, parts)), uses)

    def _add(self, name: str, text: str, uses: Iterable[str] = ()) -> None:
        binding = self._names.setdefault(name, Binding())
        binding.texts.append(text)
        binding.uses.update(dict.fromkeys(uses))
        binding.is_literal = False


def _base_names(target: ast.expr) -> list[str]:
    """Return the names that a target binds or changes: `a` and `b` of `a, b.c[0] = ...`."""
    if isinstance(target, ast.Name):
        return [target.id]
    if isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        return _base_names(target.value)
    if isinstance(target, ast.Tuple | ast.List):
        return [name for each in target.elts for name in _base_names(each)]
    return []
