"""Reduces objects for which the search of pickle in the loaded modules would fail or find the wrong thing.

To store a function, a class or a global object by name, pickle reads attributes of modules. A module may raise
anything from its `__getattr__`, for example ImportError for an optional package. The search then fails, although the
module has nothing to do with the object. `values` calls this module.
"""

from __future__ import annotations

import copyreg
import functools
import pickle
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from workflow.log.definitions import MAIN_MODULES, named
from workflow.model.signatures import CACHED


def pretends_to_be_a_function(obj: Any) -> bool:
    """Return whether an object gives itself the class of a function, as proxies do.

    cloudpickle would store the function inside and drop the proxy, and with it what the proxy does.
    """
    return isinstance(obj, types.FunctionType) and not issubclass(type(obj), types.FunctionType)


def reduced_wrapper(obj: Any) -> tuple[Any, ...] | None:
    """Reduce a function in a cache of `functools` or in a wrapper of `wrapt`; None for all other objects.

    The cache itself is not stored, so that the copy is empty.
    """
    if type(obj) is CACHED:
        return None if _has_its_name(obj) else _reduced_cache(obj)
    return _reduced_by_wrapt(obj)


def _reduced_cache(obj: Any) -> tuple[Any, ...]:
    parameters = obj.cache_parameters()
    arguments = (obj.__wrapped__, parameters["maxsize"], parameters["typed"], functools._CacheInfo)
    return CACHED, arguments, vars(obj)


def _has_its_name(obj: Any) -> bool:
    """Return whether another process finds an object by its module and name. It does not if the object is decorated."""
    module = sys.modules.get(obj.__module__) if obj.__module__ not in MAIN_MODULES else None
    return module is not None and named(module, getattr(obj, "__qualname__", "")) is obj


def _reduced_by_wrapt(obj: Any) -> tuple[Any, ...] | None:
    """Reduce a function that a decorator of `wrapt` wraps, or the class of such functions. `wrapt` refuses them."""
    wrapt = sys.modules.get("wrapt")
    kind = getattr(wrapt, "FunctionWrapper", None) if isinstance(wrapt, types.ModuleType) else None
    if kind is None:
        return None
    if obj is kind:  # its `__module__` is not the one from which it can be imported
        return getattr, (wrapt, "FunctionWrapper")
    if type(obj) is kind:
        return kind, (obj.__wrapped__, obj._self_wrapper, obj._self_enabled)
    return None


def reduced_global(obj: Any, reducers: Mapping[type, Callable[[Any], Any]]) -> Any:
    """Reduce an object whose class has a registered reducer. That of NumPy's functions, for example, returns a name.

    Args:
        obj: any object that is neither a function nor a class.
        reducers: the reducers that the pickler uses, by class. They include those of `copyreg`.

    Returns:
        What the registered reducer returned. If the search of pickle fails, a reduction that reads the object from its
        module. NotImplemented if no reducer is registered for the class.
    """
    if type(obj) not in copyreg.dispatch_table:
        return NotImplemented
    reduced = reducers[type(obj)](obj)
    if isinstance(reduced, str):
        try:
            pickle.whichmodule(obj, reduced)  # type: ignore[attr-defined]  # not in typeshed
        except Exception:  # noqa: BLE001 - the `__getattr__` of an unrelated module may raise anything
            module = _module_with(obj, reduced)
            return reduced if module is None else (getattr, (module, reduced))
    return reduced


def _module_with(obj: Any, name: str) -> types.ModuleType | None:
    """Return the loaded module that has an object under a name. Modules that raise are skipped."""
    for module_name, module in sys.modules.copy().items():
        is_searched = issubclass(type(module), types.ModuleType) and module_name not in MAIN_MODULES
        if is_searched and named(module, name) is obj:
            return module
    return None
