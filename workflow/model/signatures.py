"""Finds the signature that a call of a function must match, for checks before the call.

`functools.wraps` copies attributes of the wrapped function. By default, `inspect.signature` therefore returns the
signature of the wrapped function. A decorator may supply arguments, so what counts is the signature of the wrapper.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Final

ANYTHING: Final = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)
"""The signature of a function whose arguments cannot be checked before the call."""

CACHED: Final = type(functools.cache(lambda: None))
"""The class of a function in a cache of `functools`."""


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature that the arguments of a call must match; ANYTHING if only the call can check them.

    Args:
        function: a function, a partial, a method, a class or an object with `__call__`.

    Raises:
        ValueError: the function has no signature, as some functions written in C.
    """
    while isinstance(function, CACHED):  # written in C, and passes its arguments on unchanged
        function = function.__wrapped__
    called: Any = function
    while isinstance(called, (functools.partial, types.MethodType)):
        called = called.func if isinstance(called, functools.partial) else called.__func__
    if only_pretends(called) or _copied_signature(called):
        return ANYTHING
    try:
        return inspect.signature(function, follow_wrapped=False)
    except ValueError:
        raise
    except Exception:  # noqa: BLE001 - an attribute `__signature__` may be anything, and reading it may raise anything
        return ANYTHING


def without_annotations(signature: inspect.Signature) -> inspect.Signature:
    """Return the signature with parameter names and defaults only: annotations make error messages long."""
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)


def only_pretends(called: Any) -> bool:
    """Return whether an object gives itself the class of a function, as proxies of `wrapt` do.

    Its code and its signature are then those of another function, and its own `__call__` may supply arguments.
    """
    return isinstance(called, types.FunctionType) and not issubclass(type(called), types.FunctionType)


def _copied_signature(called: Any) -> bool:
    """Return whether `functools.wraps` copied the attribute `__signature__` from the wrapped function."""
    attributes = _attributes(called)
    own = attributes.get("__signature__")
    return own is not None and own is _attributes(attributes.get("__wrapped__")).get("__signature__")


def _attributes(thing: Any) -> dict[str, Any]:
    try:
        return dict(vars(thing))
    except TypeError:  # it has no `__dict__`
        return {}
