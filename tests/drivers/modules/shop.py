"""A user's module with the state that real modules have: a registry, a lock, a logger, a connection, a sentinel."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import workflow

MISSING = object()
logger = logging.getLogger(__name__)
lock = threading.Lock()
registry: dict[str, bool] = {}
connection: str | None = None


def connect() -> None:
    """Open the connection of this process, and register it."""
    global connection
    connection = "open"
    registry["connected"] = True


def find(stock: Mapping[str, int]) -> Any:
    return stock.get("tea", MISSING)


def look(stock: Mapping[str, int]) -> tuple[bool, str | None, dict[str, bool]]:
    with lock:
        connect()
        logger.info("looked")
        return find(stock) is MISSING, connection, dict(registry)


@workflow.step
def of_module(stock: Mapping[str, int]) -> tuple[bool, str | None, dict[str, bool]]:
    with lock:
        connect()
        logger.info("looked")
        return find(stock) is MISSING, connection, dict(registry)


def made(label: str) -> workflow.Workflow[Any]:
    """Compose a step that is defined within a function."""

    @workflow.step(name=label)
    def within_function(stock: Mapping[str, int]) -> tuple[bool, str | None, dict[str, bool]]:
        with lock:
            connect()
            logger.info("looked at %s", label)
            return find(stock) is MISSING, connection, dict(registry)

    return within_function.step({})


class Shop:
    """A class with a step."""

    @workflow.step
    def of_class(self, stock: Mapping[str, int]) -> tuple[bool, str | None, dict[str, bool]]:
        return look(stock)


@workflow.step
def dynamic(stock: Mapping[str, int]) -> workflow.Workflow[Any]:
    return of_module.step(stock)


@workflow.step
def applies(step: Any, stock: Mapping[str, int]) -> workflow.Workflow[Any]:
    """Return a step that was an argument."""
    return step.step(stock)  # type: ignore[no-any-return]  # the argument may be any step
