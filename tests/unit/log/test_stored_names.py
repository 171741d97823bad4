"""Stored pickles refer to this library only by names that are part of the format on disk."""

from __future__ import annotations

import functools
import inspect
import io
import operator
import pickle
import pickletools
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workflow
from tests.support.make_golden import ROOT, SETS, pickles
from workflow import errors
from workflow.errors import CorruptLogError, NewerFormatError
from workflow.event_listener import Checkpointed, EventListener, Poll
from workflow.log import stored_names, values
from workflow.log.pickler import stored_form
from workflow.log.stored_function import StoredFunction
from workflow.log.values import dumps, loads

PICKLES = sorted(path for name in SETS for path in (ROOT / name / "pickles").iterdir())
OWN = {
    name
    for name, value in vars(stored_names).items()
    if isinstance(value, types.FunctionType) and value.__module__ == stored_names.__name__
}
"""The functions of `stored_names`."""


def keep(obj: Any) -> None:
    """A reducer that replaces nothing."""


def resolve(kind: str, name: str) -> str:
    return f"{kind} {name}"


class Recorder(pickle.Unpickler):
    """Records the globals of this library that a pickle loads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.names: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "workflow":
            self.names.add((module, name))
        return super().find_class(module, name)


def names_in(data: bytes) -> set[tuple[str, str]]:
    """Return the globals of this library in a pickle; checks that no text in it names another module of the library."""
    for _, argument, _ in pickletools.genops(data):
        if isinstance(argument, str) and argument.split(" ")[0] in sys.modules and argument.startswith("workflow."):
            module = argument.split(" ")[0]
            assert module in stored_names.PUBLIC_MODULES | {stored_names.__name__}, argument
    recorder = Recorder(data)
    with values._resolving(resolve):
        recorder.load()
    return recorder.names


def is_stable(module: str, name: str) -> bool:
    if module == stored_names.__name__:
        return name in OWN
    return module in stored_names.PUBLIC_MODULES and not name.startswith("_")


class Doorbell(EventListener):
    """A user's listener."""

    async def poll_for_event(self) -> str:
        return "rung"


def user_functions() -> dict[str, Callable[..., Any]]:
    """Functions as users write them, with references to all that a user may import."""

    @workflow.step(max_retries=3, name="helper", num_cpus=2)
    def helper(number: int, *, scale: int = 2) -> int:
        """Scale a number."""
        return number * scale

    @workflow.step
    def recursive(number: int) -> Any:
        return recursive.step(number - 1) if number else helper.step(number, scale=3)

    def public_names() -> Any:
        return [getattr(workflow, name) for name in workflow.__all__]

    public = [getattr(workflow, name) for name in workflow.__all__]
    caught = tuple(value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception))

    def refers_to_all() -> Any:
        try:
            return public, Doorbell, helper, functools.partial(recursive.step, 1)
        except caught:
            return None

    return {
        "helper": helper.function,
        "recursive": recursive.function,
        "public names by attribute": public_names,
        "all": refers_to_all,
        "poll": Poll(Doorbell),
        "checkpointed": Checkpointed(Doorbell, False),
    }


@pytest.mark.parametrize("case", user_functions())
def test_a_users_pickle_refers_only_to_stable_names(case: str) -> None:
    data = dumps(user_functions()[case], keep)
    assert isinstance(data, bytes)
    assert [name for name in names_in(data) if not is_stable(*name)] == []


def _need_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the functions that need Ray Data or a cluster."""
    monkeypatch.setattr(stored_names, "dataset", lambda blocks: blocks)
    monkeypatch.setattr(stored_names, "actor_handle", lambda *args: args)


@pytest.mark.parametrize("path", PICKLES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_golden_pickle_refers_only_to_stable_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _need_no_ray(monkeypatch)
    assert [name for name in names_in(path.read_bytes()) if not is_stable(*name)] == []


def test_the_golden_pickles_contain_every_stored_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pickles()
    _need_no_ray(monkeypatch)
    found = {name for data in made.values() for module, name in names_in(data) if module == stored_names.__name__}
    assert found == OWN


@workflow.step
def stored(number: int) -> Any:
    """A step that refers to itself, to a class, and to public names."""
    return stored.step(number - 1) if number else (Doorbell, workflow.sleep, errors.WorkflowError)


@pytest.mark.parametrize("form", ["reference", "copy"])
def test_a_stored_function_refers_only_to_stable_names(form: str) -> None:
    made = stored_form(stored.function, keep)
    assert made is not None
    names = names_in(getattr(made, form))
    assert names
    assert [name for name in names if not is_stable(*name)] == []


def golden(name: str, folder: str = "1") -> bytes:
    return (ROOT / folder / "pickles" / f"{name}.pickle").read_bytes()


def test_a_golden_step_function_loads() -> None:
    plus = loads(golden("step-function"), resolve)
    node = plus.step(1, 2)
    assert (node.function, node.title, node.step_options.max_retries) == (operator.add, "plus", 3)
    assert node.step_options.ray == {"num_cpus": 2}


def test_golden_event_functions_load() -> None:
    poll, checkpointed = loads(golden("poll"), resolve), loads(golden("checkpointed"), resolve)
    assert (type(poll), poll.listener.__name__) == (Poll, "TimerListener")
    assert (type(checkpointed), checkpointed.caught) == (Checkpointed, True)


def test_golden_marks_public_names_and_errors_load() -> None:
    assert loads(golden("mark"), resolve) == "parent 0"
    assert loads(golden("mark-value", "2"), resolve) == f"value {'0' * 64}"
    assert loads(golden("public-function"), resolve) is workflow.sleep
    error = loads(golden("error"), resolve)
    assert (type(error), str(error), error.status) == (
        errors.WorkflowConflictError,
        "no",
        workflow.WorkflowStatus.RUNNING,
    )
    assert loads(golden("error-newer"), resolve).key == "k"


def test_golden_names_of_modules_load() -> None:
    assert loads(golden("attribute", "2"), resolve) is operator.add
    assert loads(golden("step-body", "2"), resolve) is operator.add
    assert loads(golden("module-globals", "2"), resolve) is vars(operator)


def test_a_golden_class_is_built_if_it_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    built = loads(golden("class", "2"), resolve)
    assert (type(built).__module__, type(built).__qualname__, built.x) == ("user_code", "Point", 1)
    module = types.ModuleType("user_code")
    vars(module)["Point"] = type("Point", (), {"__module__": "user_code", "x": 2})
    monkeypatch.setitem(sys.modules, "user_code", module)
    assert type(loads(golden("class", "2"), resolve)) is vars(module)["Point"]


def test_golden_functions_load() -> None:
    function = loads(golden("function", "2"), resolve)
    assert isinstance(function, StoredFunction)
    assert (function.module, function.qualname, function.digest, function.python) == ("user_code", "f", "d1", "3.9")
    assert (function.source, function.reference, function.copy, function.no_copy) == (
        "/user_code.py",
        b"reference",
        None,
        "a lock",
    )
    assert loads(golden("loaded", "2"), resolve) is operator.add


def test_a_name_that_a_module_lost_is_reported() -> None:
    with pytest.raises(AttributeError, match="module 'operator' has no 'gone'"):
        stored_names.attribute("operator", "gone")


def test_a_step_function_survives_pickling_with_all_that_it_has() -> None:
    helper = loads(dumps(user_functions()["recursive"], keep), resolve).__closure__
    steps = {cell.cell_contents.__name__: cell.cell_contents for cell in helper}
    assert steps["helper"].__doc__ == "Scale a number."
    assert steps["helper"].step(1, scale=5).kwargs == {"scale": 5}
    with pytest.raises(errors.WrongTypeError):
        steps["helper"].step(1, 2, 3)
    assert str(inspect.signature(steps["helper"])) == "(number: 'int', *, scale: 'int' = 2) -> 'int'"
    assert steps["recursive"].step(1).function is steps["recursive"].function


def test_stored_names_load_nothing_until_they_are_called() -> None:
    source = Path(stored_names.__file__).read_text()
    imported = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert imported == [
        "from __future__ import annotations",
        "from importlib import import_module",
        "from typing import Any, Final",
    ]


def test_a_mark_read_outside_of_loads_is_corrupt() -> None:
    with pytest.raises(CorruptLogError, match="refers to parent 0"):
        pickle.loads(golden("mark"))


def test_a_mark_of_an_unknown_kind_is_of_a_newer_version() -> None:
    from workflow.engine.worker.refs import mark_resolver

    data = dumps(object, lambda obj: values.mark("dream", "x") if obj is object else None)
    with pytest.raises(NewerFormatError, match=r"rayworkflow 99.*mark 'dream' is unknown.*upgrade"):
        loads(data, mark_resolver(None, "", "rayworkflow 99", lambda index: None))  # type: ignore[arg-type]
