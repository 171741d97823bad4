"""Which program a run belongs to, and which code a later epoch of the run executes. Pure decisions, without I/O.

Two programs may have steps of the same names. So the functions of another program never replace those of a run.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    """The program that created a run.

    Attributes:
        host: id of the machine or the container, from its machine id and its host name.
        process: id of the process, which no other process of this machine has.
        name: the name that the user gave in `workflow.init(program=...)`, or empty.
    """

    host: str = ""
    process: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """The code of a step's function.

    Attributes:
        digest: see `workflow.log.code_digest`.
        source: path of the file or notebook with the code, or empty.
        python: the minor version of Python that made the digest.
    """

    digest: str
    source: str
    python: str


class Choice(enum.Enum):
    """Which function a new epoch executes for the steps without an outcome.

    Attributes:
        SAME: there is nothing to choose, because the code is the same.
        PRESENT: the function of this process.
        STORED: the function that is stored with the run.
    """

    SAME = enum.auto()
    PRESENT = enum.auto()
    STORED = enum.auto()


def choose(stored: Code, present: Code, *, same_program: bool) -> Choice:
    """Choose between the function that is stored with a run and the function of the same name in this process.

    Args:
        stored: the code that is stored with the run.
        present: the code of the function that this process has under the same name.
        same_program: whether this process is surely the same program; see `is_same_program`.
    """
    if stored.digest == present.digest and stored.python == present.python:
        return Choice.SAME
    return Choice.PRESENT if same_program else Choice.STORED


def is_same_program(creator: Program, here: Program, stored_source: str, present_source: str) -> bool:
    """Return whether a function of this process surely belongs to the program that created a run.

    It does if the programs have the same name, are the same process, or have the code in the same file of the same
    machine. Equal names of scripts, modules and steps prove nothing.

    Args:
        creator: the program that created the run.
        here: the program that this process executes.
        stored_source: path of the file from which the stored function came.
        present_source: path of the file with the function of this process.
    """
    if creator.name or here.name:
        return creator.name == here.name
    if creator.host != here.host or not creator.host:
        return False
    return creator.process == here.process or (stored_source == present_source != "")
