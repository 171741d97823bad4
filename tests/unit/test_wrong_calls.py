"""Each wrong call is refused before Ray is started, with a class of ours and with what to write instead."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import ray

import workflow
from workflow import garbage
from workflow.errors import InvalidInputError, WrongTypeError
from workflow.store.memory import MemoryStore


@workflow.step
def add(left: int, right: int = 0) -> int:
    return left + right


@ray.remote  # type: ignore[untyped-decorator]  # ray ships no types for it
def remote_add(left: int, right: int) -> int:
    return left + right


@ray.remote
class RemoteCounter:
    """An actor class."""


class Basket:
    @workflow.step
    def total(self, tax: int) -> int:
        return tax


class Order(workflow.EventListener):
    async def poll_for_event(self, number: int) -> int:
        return number


class NeedsAddress(workflow.EventListener):
    def __init__(self, address: str) -> None:
        self.address = address

    async def poll_for_event(self) -> None:
        """Return at once."""


class SetState:
    def __getstate__(self) -> Any:
        raise KeyError("connection")


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def circular() -> dict[str, Any]:
    given: dict[str, Any] = {}
    given["self"] = given
    return given


def captures_lock() -> Any:
    lock = threading.Lock()
    return workflow.step(lambda: lock).step()


def captures_step() -> Any:
    composed = add.step(1)
    return workflow.step(lambda: composed).step()


anything: Any = workflow
wrong: Any = add
CALLS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    # --- what is run ---
    "run a number": (
        lambda: anything.run(5),
        WrongTypeError,
        r"cannot run 5: an int is not a workflow; pass what \.step\(",
    ),
    "run nothing": (lambda: anything.run(None), WrongTypeError, r"cannot run None: None is not a workflow"),
    "run a DAG of Ray": (
        lambda: anything.run(remote_add.bind(1, 2)),
        WrongTypeError,
        r"a FunctionNode.*workflow\.create\(",
    ),
    "run a step": (lambda: anything.run(add), WrongTypeError, r"cannot run step 'add' .*call add\.step\(\.\.\.\)"),
    "run .step": (lambda: anything.run(add.step), WrongTypeError, r"cannot run step 'add' .*call add\.step\(\.\.\.\)"),
    "run a list": (
        lambda: anything.run_async([add.step(1)]),
        WrongTypeError,
        "a list is not a workflow; run each workflow in it",
    ),
    # --- ids ---
    "id is a number": (lambda: wrong.step(1).run(5), WrongTypeError, "5 cannot be a workflow id; give any string"),
    "id is bytes": (lambda: wrong.step(1).run_async(b"a"), WrongTypeError, "b'a' cannot be a workflow id"),
    "id is empty": (lambda: workflow.run(add.step(1), ""), InvalidInputError, "'' cannot be a workflow id"),
    "id is ..": (lambda: add.step(1).run(".."), InvalidInputError, "'..' cannot be a workflow id"),
    "resume nothing": (lambda: anything.resume(None), WrongTypeError, "None cannot be a workflow id"),
    "resume a workflow": (
        lambda: anything.resume(add.step(1)),
        WrongTypeError,
        "the composed workflow of step '.*add' cannot be a workflow id",
    ),
    "status of a number": (lambda: anything.get_status(5), WrongTypeError, "5 cannot be a workflow id"),
    "output of a number": (lambda: anything.get_output(5), WrongTypeError, "5 cannot be a workflow id"),
    "metadata of a number": (lambda: anything.get_metadata(5), WrongTypeError, "5 cannot be a workflow id"),
    "cancel a number": (lambda: anything.cancel(5), WrongTypeError, "5 cannot be a workflow id"),
    "delete a number": (lambda: anything.delete(5), WrongTypeError, "5 cannot be a workflow id"),
    # --- arguments of management functions ---
    "cancel nothing": (lambda: anything.cancel(), WrongTypeError, r"workflow\.cancel\(workflow_id\): missing"),
    "delete nothing": (lambda: anything.delete(), WrongTypeError, r"workflow\.delete\(workflow_id\): missing"),
    "unknown argument of run": (
        lambda: wrong.step(1).run(workflow="a"),
        WrongTypeError,
        r"Workflow\.run\(workflow_id=None, metadata=None\): got an unexpected keyword argument 'workflow'",
    ),
    "name of a step is a number": (
        lambda: anything.get_output("a", name=5),
        WrongTypeError,
        r"workflow\.get_output: name must be the id or the name of a step, as a string, got 5",
    ),
    "two names of steps": (
        lambda: anything.get_output("a", "b", "c"),
        WrongTypeError,
        r"get_output\(workflow_id, name=None\): too many",
    ),
    "take over by text": (
        lambda: anything.resume("a", take_over="yes"),
        WrongTypeError,
        "take_over must be True or False, got 'yes'",
    ),
    "resume all of an id": (
        lambda: anything.resume_all("a"),
        WrongTypeError,
        r"include_failed must be True or False, got 'a'; .*call workflow\.resume\(workflow_id\)",
    ),
    "filter is a number": (lambda: anything.list_all(5), WrongTypeError, "cannot filter by 5.*a status is one of RUNN"),
    "filter is misspelled": (
        lambda: workflow.list_all("running"),
        InvalidInputError,
        r"'running' is not a status \(did you mean 'RUNNING'\?\); a status is one of RUNNING, RESUMABLE",
    ),
    "filter has a number": (lambda: anything.list_all([5]), WrongTypeError, "5 is not a status"),
    "grace is text": (
        lambda: garbage.collect(MemoryStore("a"), grace=anything),
        InvalidInputError,
        "give a number, 0 or more",
    ),
    "unknown argument of init": (
        lambda: anything.init(address="auto"),
        WrongTypeError,
        r"workflow\.init\(.*\): got an unexpected keyword argument 'address'; .* call ray\.init\(\.\.\.\) before",
    ),
    # --- metadata ---
    "metadata is text": (lambda: wrong.step(1).run("a", "b"), InvalidInputError, "metadata must be a dict .*got 'b'"),
    "metadata has a set": (
        lambda: add.step(1).run("a", {"ok": 1, "tags": {1}}),
        InvalidInputError,
        r"metadata\['tags'\] is not one: Object of type set.*use strings, numbers",
    ),
    "metadata is circular": (
        lambda: add.step(1).run("a", circular()),
        InvalidInputError,
        r"\['self'\] is not one: Circ",
    ),
    "metadata is deep": (
        lambda: add.step(1).run("a", {"deep": nested(10**5)}),
        InvalidInputError,
        r"\['deep'\] is not",
    ),
    # --- the decorator ---
    "step of nothing": (lambda: anything.step(None), WrongTypeError, "takes a function, not None; write it above"),
    "step of a number": (
        lambda: anything.step(5),
        WrongTypeError,
        r"takes a function, not an int \(5\); write it above",
    ),
    "step of a workflow": (lambda: anything.step(add.step(1)), WrongTypeError, "it is composed already, so run it"),
    "step of an object": (lambda: anything.step(Basket()), WrongTypeError, r"takes a function, not a Basket \("),
    "step of a step": (
        lambda: anything.step(add),
        InvalidInputError,
        r"add is a step already; change its options with",
    ),
    "step of two": (lambda: anything.step(len, 3), WrongTypeError, r"takes one function, got .*\(max_retries=3\)"),
    "step of a remote function": (
        lambda: workflow.step(remote_add),
        WrongTypeError,
        "remote_add cannot be a step: it is a Ray remote function; write @workflow.step above its `def` instead",
    ),
    "step of an actor class": (
        lambda: workflow.step(RemoteCounter),
        WrongTypeError,
        "RemoteCounter cannot be a step: it is a Ray actor class",
    ),
    # --- options ---
    "misspelled option": (
        lambda: workflow.step(max_retry=3),
        InvalidInputError,
        r"max_retry \(did you mean 'max_retri",
    ),
    "unknown option": (
        lambda: add.options(unknown=1),
        InvalidInputError,
        "unknown step option unknown; known options:",
    ),
    "option of actors": (lambda: add.options(max_restarts=1), InvalidInputError, "an option of Ray actors"),
    "options by position": (lambda: wrong.options({}), WrongTypeError, r"cannot call \.options.*give options by name"),
    "name is a number": (lambda: add.options(name=5), InvalidInputError, "the option name must be a string, got 5"),
    "value that Ray refuses": (
        lambda: add.options(num_cpus=-1),
        InvalidInputError,
        "does not accept num_cpus=-1.*give a",
    ),
    "long value that Ray refuses": (lambda: add.options(num_cpus="a" * 9000), InvalidInputError, r"^.{1,400}$"),
    # --- calls of steps ---
    "direct call": (lambda: add(1), WrongTypeError, r"cannot call step add directly: call add\.step\(\.\.\.\), then"),
    "too many arguments": (
        lambda: add.step(1, 2, 3),
        WrongTypeError,
        r"step add\(left, right=0\): too many positional",
    ),
    "unknown argument": (
        lambda: add.step(1, middle=3),
        WrongTypeError,
        r"add\(.*an unexpected keyword argument 'middle'",
    ),
    "argument is .step": (lambda: wrong.step(add.step), WrongTypeError, r"add\.step is not called; write add\.step\("),
    "method of a class": (
        lambda: Basket.total.step(1),
        WrongTypeError,
        r"missing a required argument: 'tax'; it is a method.*: Basket\(\.\.\.\)\.total\.step",
    ),
    "run of a step": (
        lambda: wrong.run(),
        AttributeError,
        r"step 'add' has no attribute 'run'.*add\.step\(\.\.\.\)\.run\(",
    ),
    "remote of a step": (lambda: wrong.remote(1), AttributeError, r"no attribute 'remote': call add\.step\(\.\.\.\)"),
    "options of a workflow": (lambda: wrong.step(1).options(), AttributeError, r"as f\.options\(\.\.\.\)\.step\("),
    "value of a workflow": (lambda: wrong.step(1).result, AttributeError, r"nothing is executed before run\(\)"),
    "other attribute": (lambda: wrong.step(1).other, AttributeError, r"^a Workflow has no attribute 'other'$"),
    # --- values ---
    "lock": (
        lambda: wrong.step([1, {"key": threading.Lock()}]),
        InvalidInputError,
        r"arguments of step '.*add': a lock at argument left\[1\]\['key'\] cannot be pickled: .*; pass data instead",
    ),
    "deep list": (
        lambda: wrong.step(1, nested(10**5)),
        InvalidInputError,
        "a list at argument right cannot be pickled: its objects are nested too deeply for pickle; pass it in a flat",
    ),
    "class that raises": (
        lambda: wrong.step(SetState()),
        InvalidInputError,
        "a SetState at argument left cannot be pickled: KeyError: 'connection'; a method .* such as __reduce__",
    ),
    "captured lock": (
        captures_lock,
        InvalidInputError,
        "function of step .*: a lock at variable lock cannot be pickled",
    ),
    "captured step": (captures_step, InvalidInputError, r"composed workflow of step '.*add', which has no value yet"),
    # --- waits ---
    "sleep nothing": (lambda: anything.sleep(), WrongTypeError, r"workflow\.sleep\(duration\): missing"),
    "sleep text": (lambda: anything.sleep("x"), WrongTypeError, "sleep takes a number of seconds, not 'x'"),
    "sleep a decimal": (lambda: anything.sleep(Decimal(1)), WrongTypeError, "pass an int or a float"),
    "sleep a timedelta": (lambda: anything.sleep(datetime.timedelta(1)), WrongTypeError, r"pass its total_seconds\(\)"),
    "sleep a workflow": (lambda: anything.sleep(add.step(1)), WrongTypeError, r"return workflow\.sleep\(duration\)"),
    "sleep nan": (lambda: workflow.sleep(float("nan")), InvalidInputError, "a finite number of seconds, not nan"),
    "sleep too long": (lambda: workflow.sleep(10**400), InvalidInputError, "a finite number of seconds, not 10"),
    "option of a sleep": (
        lambda: workflow.sleep(1).options(nme="a"),
        InvalidInputError,
        r"nme \(did you mean 'name'\?\)",
    ),
    "wait for nothing": (lambda: anything.wait_for_event(), WrongTypeError, r"wait_for_event\(event_listener_type, "),
    "wait for a class": (
        lambda: anything.wait_for_event(Basket),
        WrongTypeError,
        "a subclass of workflow.EventListener",
    ),
    "wait for an object": (lambda: anything.wait_for_event(Order()), WrongTypeError, "pass the class Order instead of"),
    "wait for the base class": (
        lambda: workflow.wait_for_event(workflow.EventListener),
        WrongTypeError,
        "does not define `async def poll_for_event",
    ),
    "listener with arguments": (
        lambda: workflow.wait_for_event(NeedsAddress),
        WrongTypeError,
        r"NeedsAddress: its __init__ must work without arguments.*'address'",
    ),
    "arguments of a listener": (
        lambda: workflow.wait_for_event(Order),
        WrongTypeError,
        r"Order\.poll_for_event\(self, number\): missing a required argument: 'number'",
    ),
    # --- names of the package ---
    "virtual actor": (lambda: anything.virtual_actor, AttributeError, r"no virtual actors.*docs/non-goals\.md"),
    "class of an error": (
        lambda: anything.WorkflowNotFoundError,
        AttributeError,
        "from workflow.errors import Workflow",
    ),
    "misspelled name": (lambda: anything.run_asnyc, AttributeError, r"\(did you mean 'run_async'\?\); it has EventLis"),
}


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("the call started Ray"))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.mark.parametrize(("call", "kind", "text"), CALLS.values(), ids=CALLS)
def test_wrong_call(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text) as refused:
        call()
    assert type(refused.value) is kind


@pytest.mark.parametrize("duration", [-1, 0, 2.5, np.int64(3), np.float32(0.5)], ids=repr)
def test_sleep_accepts_every_real_number(duration: Any) -> None:
    assert workflow.sleep(duration).seconds == max(0.0, float(duration))
