"""A later epoch executes present code if a name identifies it, a step needs it, and the program is surely the same."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import runs
from workflow.engine.driver.present_code import replace_functions
from workflow.engine.worker.run_values import RunValues
from workflow.log.blobs import Blobs
from workflow.log.code_digest import digest
from workflow.log.keys import RunPaths
from workflow.log.stored_function import StoredFunction
from workflow.model import fold
from workflow.model.graph import Graph
from workflow.model.program import Program
from workflow.model.run_view import Owner
from workflow.model.state import RunState
from workflow.store.memory import MemoryStore

HERE = Program("host", "process", "")
LATER = Program("host", "later process", "")
ELSEWHERE = Program("other host", "other process", "")
UID = "uid-of-the-object"

ONE = "import workflow\n@workflow.step\ndef one(): return {}\n@workflow.step\ndef two(): return {}"


class Fixture:
    """A run whose functions are stored, and the module of the process that claims it."""

    def __init__(self, name: str = "user_module") -> None:
        self.module = name
        self.store = MemoryStore("present code")
        self.values = RunValues(self.store, RunPaths("w", 1, "run-1"))

    def define(self, source: str, file: str = "/user_module.py") -> types.ModuleType:
        """Give this process a module."""
        module = types.ModuleType(self.module)
        module.__spec__ = types.SimpleNamespace(loader=None)  # type: ignore[assignment]
        module.__file__ = file
        exec(source, vars(module))
        sys.modules[self.module] = module
        return module

    def function(self, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = vars(sys.modules[self.module])[name].function
        return found

    def run(self, *steps: str, program: Program = HERE, uid: str = "") -> RunState:
        """Return a run of steps with the present functions of these names."""
        dag = runs.graph(" ".join(steps))
        specs = [
            dataclasses.replace(
                each,
                function=self.values.store_function(self.function(each.step_id), each.step_id),
                qualname=f"{self.module}.{each.step_id}",
                module=self.module,
            )
            for each in dag.steps
        ]
        graph = Graph(tuple(specs), dag.output)
        owner = Owner("m1", "i1", "manager-1", uid)
        return fold.begin(runs.created(graph, program=program, main_script="trip.py", owner=owner), graph)

    def replaced(self, state: RunState, here: Program = HERE, uid: str = "") -> dict[str, str]:
        """Return the name of each replaced function -> the digest of the function that replaces it."""
        found = replace_functions(state, self.values, here, uid)
        names = {step.spec.function: step.spec.step_id for step in state.steps.values()}
        return {names[stored]: self.digest(present) for stored, present in found.items()}

    def digest(self, blob: str) -> str:
        stored = self.values.load_stored_function(blob)
        assert isinstance(stored, StoredFunction)
        return stored.digest

    def present(self, *names: str) -> dict[str, str]:
        return {name: digest(self.function(name)) for name in names}


@pytest.fixture
def fixture() -> Iterator[Fixture]:
    made = Fixture()
    made.define(ONE.format(1, 2))
    yield made
    sys.modules.pop(made.module, None)


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_changed_functions_are_replaced_and_logged(fixture: Fixture, caplog: pytest.LogCaptureFixture) -> None:
    state = fixture.run("one", "two:one")
    fixture.define(ONE.format(3, 4))
    assert fixture.replaced(state) == fixture.present("one", "two")
    assert texts(caplog) == [
        f"workflow 'w': function user_module.{name} has changed; steps without an outcome execute the present code in "
        "/user_module.py"
        for name in ("one", "two")
    ]


def test_unchanged_function_is_not_replaced(fixture: Fixture, caplog: pytest.LogCaptureFixture) -> None:
    state = fixture.run("one", "two:one")
    assert fixture.replaced(state) == {}
    fixture.define(f"# a comment\n\n{ONE.format(1, 5)}", "/elsewhere.py")
    assert fixture.replaced(state) == fixture.present("two")
    assert len(texts(caplog)) == 1


def test_function_that_was_changed_back_is_replaced(fixture: Fixture) -> None:
    state = fixture.run("one")
    (spec,) = (step.spec for step in state.steps.values())
    fixture.define(ONE.format(3, 4))
    fixed = replace_functions(state, fixture.values, HERE, "")
    fold.apply(state, 1, dataclasses.replace(runs.claimed(2), functions=fixed))
    assert fixture.replaced(state) == {}
    fixture.define(ONE.format(1, 2))
    back = replace_functions(state, fixture.values, HERE, "")
    assert fixture.digest(back[spec.function]) == fixture.digest(spec.function)
    fold.apply(state, 2, dataclasses.replace(runs.claimed(3), functions=back))
    assert fixture.replaced(state) == {}


def test_removed_function_keeps_the_code_of_the_last_epoch(fixture: Fixture) -> None:
    state = fixture.run("one", "two:one")
    fixture.define(ONE.format(3, 4))
    fixed = replace_functions(state, fixture.values, HERE, "")
    fold.apply(state, 1, dataclasses.replace(runs.claimed(2), functions=fixed))
    vars(fixture.define(ONE.format(5, 6))).pop("two")
    assert fixture.replaced(state) == fixture.present("one")
    assert state.functions == fixed


def test_function_is_not_replaced_if_its_steps_have_outcomes(fixture: Fixture) -> None:
    state = fixture.run("one", "two:one")
    fold.apply(state, 1, runs.started("one"))
    fold.apply(state, 2, runs.committed("one"))
    fixture.define(ONE.format(3, 4))
    assert fixture.replaced(state) == fixture.present("two")


def test_function_of_many_steps_is_compared_once(fixture: Fixture, caplog: pytest.LogCaptureFixture) -> None:
    state = fixture.run("one")
    (step,) = state.steps.values()
    specs = [dataclasses.replace(step.spec, step_id=name) for name in ("a", "b", "c")]
    graph = Graph(tuple(specs), "c")
    fixture.define(ONE.format(3, 4))
    many = fold.begin(runs.created(graph, program=HERE), graph)
    assert len(replace_functions(many, fixture.values, HERE, "")) == 1
    assert len(texts(caplog)) == 1


def test_functions_of_a_loop_keep_their_code(fixture: Fixture, caplog: pytest.LogCaptureFixture) -> None:
    state = fixture.run("one")
    (step,) = state.steps.values()
    specs = []
    for number in range(3):
        fixture.define(f"import workflow\n@workflow.step\ndef one(number={number}): return number")
        blob = fixture.values.store_function(fixture.function("one"), "one")
        specs.append(dataclasses.replace(step.spec, step_id=f"one_{number}", function=blob))
    looped = fold.begin(runs.created(Graph(tuple(specs), "one_2"), program=HERE), Graph(tuple(specs), "one_2"))
    assert fixture.replaced(looped) == {}
    assert all("there are several functions" in text for text in texts(caplog))


def test_function_that_is_a_step_under_another_name_is_replaced(fixture: Fixture) -> None:
    state = fixture.run("one")
    fixture.define("import workflow\ndef one(): return 3\nstep_of_one = workflow.step(one)")
    assert len(fixture.replaced(state)) == 1


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param("", "module 'user_module' has no step 'one' here", id="removed"),
        pytest.param("one = 3", "module 'user_module' has no step 'one' here", id="no function"),
        pytest.param(
            "import workflow\none = workflow.step(lambda: 3)",
            "module 'user_module' has no step 'one' here",
            id="lambda",
        ),
        pytest.param(
            "import workflow\none = workflow.step(len)", "module 'user_module' has no step 'one' here", id="C function"
        ),
        pytest.param(
            "import workflow\n@workflow.step\ndef two(): return 3\none = two",
            "module 'user_module' has no step 'one' here",
            id="another step",
        ),
    ],
)
def test_name_without_its_step_keeps_the_stored_function(
    source: str, reason: str, fixture: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    state = fixture.run("one")
    fixture.define(source)
    assert fixture.replaced(state) == {}
    assert texts(caplog) == [f"workflow 'w': {reason}; the stored function is executed"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(2)", "ImportError: module 'module_that_fails' exits with 2 when it is imported"),
        (None, "ModuleNotFoundError: No module named 'module_that_fails'"),
    ],
    ids=["raises", "exits", "missing"],
)
def test_module_that_is_not_importable_keeps_stored_functions(
    code: str | None, reason: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Fixture("module_that_fails")
    failing.define(ONE.format(1, 2))
    state = failing.run("one")
    del sys.modules[failing.module]
    if code is not None:
        (tmp_path / "module_that_fails.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
    assert replace_functions(state, failing.values, HERE, "") == {}
    assert texts(caplog) == [
        f"workflow 'w': module 'module_that_fails' cannot be imported here ({reason}); the stored function is executed"
    ]


@pytest.mark.parametrize(
    ("creator", "here", "file", "uids", "is_replaced"),
    [
        pytest.param(HERE, HERE, "/other.py", ("", ""), True, id="same process"),
        pytest.param(HERE, LATER, "/user_module.py", ("", ""), True, id="same file"),
        pytest.param(HERE, LATER, "/other.py", ("", ""), False, id="other file"),
        pytest.param(HERE, ELSEWHERE, "/user_module.py", ("", ""), False, id="other machine"),
        pytest.param(HERE, ELSEWHERE, "/other.py", (UID, UID), True, id="same Workflow object"),
        pytest.param(HERE, ELSEWHERE, "/user_module.py", (UID, "other"), False, id="other Workflow object"),
        pytest.param(HERE, ELSEWHERE, "/user_module.py", ("", UID), False, id="Workflow object only here"),
        pytest.param(
            Program("a", "b", "shop"), Program("c", "d", "shop"), "/other.py", ("", ""), True, id="same program name"
        ),
        pytest.param(Program("a", "b", "shop"), HERE, "/user_module.py", ("", ""), False, id="program name"),
        pytest.param(Program(), HERE, "/user_module.py", ("", ""), False, id="run of an earlier version"),
    ],
)
def test_another_program_never_replaces_functions(
    creator: Program,
    here: Program,
    file: str,
    uids: tuple[str, str],
    is_replaced: bool,
    fixture: Fixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = fixture.run("one", program=creator, uid=uids[0])
    fixture.define(ONE.format(3, 4), file)
    assert fixture.replaced(state, here, uids[1]) == (fixture.present("one") if is_replaced else {})
    (text,) = texts(caplog)
    if not is_replaced:
        assert text == (
            f"workflow 'w': function user_module.one here ({os.path.realpath(file)}) differs from the one that is "
            "stored with the run (/user_module.py, created by trip.py). This may be another program, so the stored "
            "function is executed; to use new code, give both programs the same name with workflow.init(program=...)"
        )


def test_same_code_of_another_program_is_no_difference(fixture: Fixture, caplog: pytest.LogCaptureFixture) -> None:
    state = fixture.run("one", program=ELSEWHERE)
    assert fixture.replaced(state) == {}
    assert texts(caplog) == []


def test_function_of_a_script_is_replaced_by_that_script(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Fixture("__main__")
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    script.define(ONE.format(1, 2), "/trip.py")
    state = script.run("one")
    script.define(ONE.format(3, 4), "/trip.py")
    assert script.replaced(state, LATER) == script.present("one")
    script.define(ONE.format(3, 4), "/elsewhere/trip.py")
    assert script.replaced(state, LATER) == {}


def test_changed_helper_of_an_unchanged_function_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Fixture("__main__")
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    cells = notebook.define("import workflow\ndef helper(): return 1\n@workflow.step\ndef one(): return helper()")
    state = notebook.run("one")
    exec("def helper(): return 2", vars(cells))
    (blob,) = replace_functions(state, notebook.values, HERE, "").values()
    assert notebook.digest(blob) == digest(notebook.function("one"))
    assert notebook.values._load_function(blob)[0]() == 2


def test_plain_function_of_an_earlier_version_stays(fixture: Fixture, caplog: pytest.LogCaptureFixture) -> None:
    state = fixture.run("one")
    (spec,) = (step.spec for step in state.steps.values())
    blobs = Blobs(fixture.store, RunPaths("w", 1, "run-1"))
    for data, words in ((b"N.", []), (b"no pickle", ["cannot compare function"])):
        blob = blobs.put(data)
        graph = Graph((dataclasses.replace(spec, function=blob),), spec.step_id)
        assert fixture.replaced(fold.begin(runs.created(graph, program=HERE), graph)) == {}
        assert [text[: len(word)] for text, word in zip(texts(caplog), words, strict=True)] == words
