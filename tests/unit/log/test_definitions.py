"""A value that returns to a process has the classes of that process, however its definition travelled."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workflow
from tests.support import user_modules
from workflow.log import definitions, values
from workflow.log.definitions import Classes, add_to_scope, class_here, class_scope
from workflow.log.pickler import Form, dumps

SCRIPT = """
    import abc, collections, dataclasses, enum, json, sys
    from typing import Generic, NamedTuple, TypedDict, TypeVar
    from workflow.log import values
    from workflow.log.pickler import dumps, stored_form

    class Color(enum.Enum):
        RED = 1
        GREEN = "g"
        def text(self): return self.name
    class Level(enum.IntFlag):
        LOW = 1
        HIGH = 2
    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int
        color: Color = Color.RED
    @dataclasses.dataclass(slots=True)
    class Slots:
        x: int
    class BySlots:
        __slots__ = ("x", "__dict__")
        def __init__(self, x): self.x, self.y = x, x
        def __eq__(self, other): return type(other) is BySlots and other.x == self.x == other.y
    class OneSlot:
        __slots__ = "x"
        def __init__(self, x): self.x = x
        def __eq__(self, other): return type(other) is OneSlot and not hasattr(other, "__dict__") and other.x == self.x
    class SlotsOfBase(Slots):
        __slots__ = ()
    class OutOfStockError(Exception):
        def __init__(self, item, left):
            super().__init__(item, left)
            self.left = left
    Pair = collections.namedtuple("Pair", "a b")
    class Named(NamedTuple):
        a: int = 1
    class Outer:
        class Inner:
            def __init__(self, x): self.x = x
            def __eq__(self, other): return type(other) is Outer.Inner and other.x == self.x
    class Meta(type):
        def __call__(cls, *args): return super().__call__(*args)
    class Made(metaclass=Meta):
        def __eq__(self, other): return type(other) is Made
    T = TypeVar("T")
    class Box(Generic[T]):
        def __init__(self, x): self.x = x
        def __eq__(self, other): return type(other) is Box and other.x == self.x
    class Base(abc.ABC):
        @abc.abstractmethod
        def m(self): ...
    class Derived(Base):
        def m(self): return Derived
        def __eq__(self, other): return isinstance(other, Base) and other.m() is Derived
    class Table(dict): ...
    class Node:
        def __init__(self): self.me = self
        def __eq__(self, other): return type(other) is Node and other.me is other
    class Typed(TypedDict):
        a: int

    def results():
        return {
            "enum": Color.RED, "enum by name": Color["GREEN"], "flags": Level.LOW | Level.HIGH, "dataclass": Point(1),
            "slots": Slots(2), "slots and more": BySlots(1), "one slot": OneSlot(3), "slots of a base": SlotsOfBase(2),
            "named tuple": Pair(1, 2), "typed named tuple": Named(3), "nested class": Outer.Inner(1),
            "metaclass": Made(), "generic": Box[int](2), "abstract base": Derived(), "subclass of dict": Table(a=1),
            "circle": Node(), "classes": [Color, Point, Outer.Inner, Box, OutOfStockError, Typed, Meta],
            "keys": {Color.RED: Point(1)}, "typed dict": Typed(a=1),
        }

    def local():
        class Point:
            mark = "local"
        return Point()

    def work(value):
        try:
            raise OutOfStockError("pen", 3)
        except OutOfStockError as error:
            same = {name: value[name] == made for name, made in results().items()}
            return value, results(), error, same, local()

    def resolve(kind, name): raise AssertionError

    if __name__ == "__main__":
        folder = sys.argv[2]
        if sys.argv[1] == "store":
            function = stored_form(work, lambda obj: None)
            with open(f"{folder}/function", "wb") as out: out.write(dumps(function, lambda obj: None))
            with open(f"{folder}/argument", "wb") as out: out.write(dumps(results(), lambda obj: None))
            print("null")
        else:
            value, made, error, same, found = values.loads(open(f"{folder}/result", "rb").read(), resolve)
            def different(read):
                return [
                    name for name, made in results().items()
                    if read[name] != made or type(read[name]) is not type(made)
                ]
            print(json.dumps({
                "argument": different(value),
                "result": different(made),
                "members": made["enum"] is Color.RED and value["classes"][0] is Color and Color.RED.text() == "RED",
                "error": type(error) is OutOfStockError and error.args == ("pen", 3) and error.left == 3,
                "local": [found.mark, type(found).__qualname__],
                "worker": [name for name, is_same in same.items() if not is_same],
            }))
"""

WORKER = """
    import sys
    from workflow.log import values
    from workflow.log.definitions import class_scope
    from workflow.log.pickler import dumps
    def resolve(kind, name): raise AssertionError
    folder = sys.argv[1]
    with class_scope({}):
        function = values.load_function(values.loads(open(f"{folder}/function", "rb").read(), resolve), resolve)
        assert function.notice == ""
        argument = values.loads(open(f"{folder}/argument", "rb").read(), resolve)
        result = function.function(argument)
    with open(f"{folder}/result", "wb") as out: out.write(dumps(result, lambda obj: None))
    print("null")
"""


@pytest.fixture(scope="module")
def returned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a script finds in a later process of its own, when it reads what a worker returned."""
    folder = str(tmp_path_factory.mktemp("script"))
    user_modules.in_process(SCRIPT, None, "store", folder)
    user_modules.in_process(WORKER, None, folder)
    found: dict[str, Any] = user_modules.in_process(SCRIPT, None, "read", folder)
    return found


@pytest.mark.parametrize("part", ["argument", "result", "worker"])
def test_values_of_a_script_have_its_classes(part: str, returned: dict[str, Any]) -> None:
    assert returned[part] == []


def test_enum_members_and_exceptions_keep_their_identity(returned: dict[str, Any]) -> None:
    assert (returned["members"], returned["error"]) == (True, True)


def test_class_within_a_function_of_a_script_keeps_its_name(returned: dict[str, Any]) -> None:
    assert returned["local"] == ["local", "local.<locals>.Point"]


def keep(obj: Any) -> None:
    """Replaces nothing."""


def resolve(kind: str, name: str) -> Any:
    raise AssertionError(f"no mark was expected: {kind} {name}")


class Project:
    """Modules of a user, which this process imports and forgets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.names: list[str] = []

    def define(self, name: str, source: str) -> types.ModuleType:
        """Make a module of this process; it replaces an earlier one with its name."""
        module = types.ModuleType(name)
        module.__spec__ = types.SimpleNamespace(loader=None)  # type: ignore[assignment]
        exec(source, vars(module))
        sys.modules[name] = module
        self.names.append(name)
        return module

    def forget(self, name: str) -> None:
        """Let the process behave as if it had never imported a module."""
        del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    for name in made.names:
        sys.modules.pop(name, None)


def through(value: Any, classes: Classes | None = None, form: Form = Form.VALUE, home: str = "") -> Any:
    """Pickle a value and load it in a scope of classes."""
    return loaded(dumps(value, keep, form, home), classes)


def loaded(data: Any, classes: Classes | None = None) -> Any:
    if classes is None:
        return values.loads(data, resolve)
    with class_scope(classes):
        return values.loads(data, resolve)


V1 = "class P:\n    version = 1\n    def __init__(self, x): self.x = x"
V2 = "class P:\n    version = 2\n    def __init__(self, x): self.x = x"


def test_value_gets_the_present_class(project: Project) -> None:
    old = project.define("__main__x", V1)
    data = dumps(vars(old)["P"](3), keep, Form.COPY, "__main__x")
    new = project.define("__main__x", V2)
    found = loaded(data)
    assert type(found) is vars(new)["P"]
    assert (found.x, found.version) == (3, 2)


def test_class_without_its_module_is_built_once_in_a_scope(project: Project) -> None:
    old = project.define("shop", V1)
    first, second = (dumps(vars(old)["P"](number), keep, Form.COPY, "shop") for number in (1, 2))
    project.forget("shop")
    classes: Classes = {}
    assert type(loaded(first, classes)) is type(loaded(second, classes)) is classes[("shop", "P")]


def test_old_values_get_the_class_of_their_function(project: Project) -> None:
    old = dumps(vars(project.define("shop", V1))["P"](1), keep, Form.COPY, "shop")
    new = dumps(vars(project.define("shop", V2))["P"](2), keep, Form.COPY, "shop")
    project.forget("shop")
    of_function: Classes = {}
    assert loaded(new, of_function).version == 2
    with class_scope({}):
        add_to_scope(of_function)
        found = values.loads(old, resolve)
    assert (found.x, found.version) == (1, 2)
    assert type(found) is of_function[("shop", "P")]
    assert loaded(old, {}).version == 1, "another function keeps its own class"


def test_scope_of_one_step_does_not_reach_another() -> None:
    classes: Classes = {("shop", "P"): int}
    add_to_scope(classes)
    inner: Classes = {}
    other: Classes = {}
    with class_scope(inner):
        add_to_scope(classes)
        assert inner == classes
    with class_scope(other):
        pass
    assert other == {}


LOCAL = """
class P: version = "top"
def make(number):
    class P:
        version = number
    return P
"""


def test_class_within_a_function_is_never_mistaken(project: Project) -> None:
    shop = project.define("shop", LOCAL)
    one, two = vars(shop)["make"](1), vars(shop)["make"](2)
    first, second = through((one, two), {})
    assert (first.version, second.version, first.__qualname__) == (1, 2, "make.<locals>.P")
    again = through(through(one()))
    assert (again.version, type(again).__qualname__) == (1, "make.<locals>.P")


@pytest.mark.parametrize(
    ("source", "why"),
    [("x = 1", "no such name"), ("P = 3", "no class"), ("class Q: ...\nP = Q", "another name"), ("1 / 0", "raises")],
)
def test_class_that_is_not_here(source: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_modules.write(tmp_path, {"shop_of_test": source})
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert class_here("shop_of_test", "P") is None
    finally:
        sys.modules.pop("shop_of_test", None)


def test_class_of_a_missing_module_is_not_here() -> None:
    assert class_here("nowhere_to_be_found", "P") is None


def test_name_of_an_object_whose_attributes_raise() -> None:
    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("no")

    module = types.ModuleType("hostile")
    vars(module)["h"] = Hostile()
    assert definitions.named(module, "h.x") is None
    assert definitions.named(module, "missing") is None


def plain() -> None: ...


PLAIN: Any = plain


@workflow.step
def stepped() -> None: ...


STEPPED: Any = stepped


class Holder:
    @workflow.step
    def method(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "is_body"),
    [
        (stepped.function, True),
        (Holder.method.function, True),
        (plain, False),
        (lambda: None, False),
        (workflow.step(plain).function, False),
    ],
    ids=["step", "method", "function", "lambda", "step without a name"],
)
def test_function_of_the_step_with_its_name(function: Any, is_body: bool) -> None:
    assert definitions.is_step_body(function) is is_body


def test_module_that_other_processes_can_import(monkeypatch: pytest.MonkeyPatch) -> None:
    assert definitions.module_name(PLAIN) == definitions.home_module(STEPPED.function) == __name__
    script = types.ModuleType("__main__")
    script.__spec__ = types.SimpleNamespace(loader=None)  # type: ignore[assignment]
    exec("def f(): ...", vars(script))
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert definitions.module_name(vars(script)["f"]) == ""
    made = types.FunctionType(plain.__code__, {"__name__": __name__})
    assert definitions.module_name(made) == "", "its globals are not those of the module"
    assert not definitions.is_importable(types.ModuleType("made_here"))
    assert not definitions.is_importable(None)
