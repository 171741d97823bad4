"""The fingerprint of the user's loaded modules: nothing in `sys.modules` makes it fail, and it sees each change."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
import threading
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from workflow.engine.driver import user_code
from workflow.engine.driver.user_code import content_of, file_of, is_installed, loaded_code


def module(name: str = "m", **attributes: Any) -> types.ModuleType:
    """Return a module with these attributes."""
    made = types.ModuleType(name)
    vars(made).update(attributes)
    return made


def code_of(*loaded: Any) -> list[str]:
    """Return what the fingerprint contains of some modules."""
    return loaded_code({str(number): each for number, each in enumerate(loaded)})


class Raises:
    """Replaces a module, and raises for every attribute, even for its class."""

    def __init__(self, error: Exception) -> None:
        object.__setattr__(self, "error", error)

    def __getattribute__(self, name: str) -> Any:
        raise object.__getattribute__(self, "error")


class Slotted:
    __slots__ = ()


class LoadsItself(types.ModuleType):
    """A module that imports an optional package when it is first read."""

    def __getattribute__(self, name: str) -> Any:
        raise ImportError(f"{name} needs a package that is not installed")


class HasClassAttribute(types.ModuleType):
    """Like `torch.ops`: the attribute is that of the class, and names no file."""

    __file__ = "_ops.py"


class OddPath(os.PathLike[str]):
    def __fspath__(self) -> str:
        raise RuntimeError("not a path today")


def dynamic(name: str) -> Any:
    raise KeyError(name)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(None, id="blocked import"),
        pytest.param(Raises(ValueError("boom")), id="ValueError"),
        pytest.param(Raises(RuntimeError("boom")), id="RuntimeError"),
        pytest.param(Raises(ImportError("boom")), id="ImportError"),
        pytest.param(Slotted(), id="no attributes"),
        pytest.param(LoadsItself("lazy"), id="missing optional package"),
        pytest.param(HasClassAttribute("ops"), id="attribute of the class"),
        pytest.param(module(__getattr__=dynamic), id="module with __getattr__"),
        pytest.param(module(), id="no file"),
        pytest.param(module(__file__=None), id="None"),
        pytest.param(module(__file__=""), id="empty"),
        pytest.param(module(__file__=7), id="number"),
        pytest.param(module(__file__=OddPath()), id="odd path"),
        pytest.param(mock.MagicMock(), id="MagicMock"),
        pytest.param(mock.Mock(spec=types.ModuleType), id="Mock of a module"),
        pytest.param("text", id="text"),
    ],
)
def test_object_without_a_file_is_left_out(odd: Any) -> None:
    assert code_of(odd) == []


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_file_may_be_text_path_or_bytes(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    path.write_text("x = 1")
    assert code_of(module(__file__=kind(path))) == code_of(module(__file__=str(path)))
    assert code_of(types.SimpleNamespace(__file__=kind(path))) == code_of(module(__file__=str(path)))


def test_lazy_module_is_seen_and_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "lazy_flow.py"
    path.write_text("raise ImportError('needs a package that is not installed')")
    spec = importlib.util.spec_from_file_location("lazy_flow", path)
    assert spec is not None
    assert spec.loader is not None
    lazy = importlib.util.module_from_spec(spec)
    importlib.util.LazyLoader(spec.loader).exec_module(lazy)
    assert [line.split()[0] for line in code_of(lazy)] == [str(path)]


# --- changes ---


@pytest.mark.parametrize("name", ["flow.py", "flow.pyc", "flow.so", "notebook.ipynb"])
def test_changed_file_changes_the_code(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"x = 1")
    before = code_of(module(__file__=str(path)))
    path.write_bytes(b"x = 2")
    assert code_of(module(__file__=str(path))) != before


def test_change_of_equal_size_and_time_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "flow.py"
    path.write_text("x = 1")
    before, status = content_of(str(path)), path.stat()
    path.write_text("x = 2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_of(str(path)) != before


def write_zip(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zipped_flow.py", text)


@pytest.fixture
def zipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, types.ModuleType]]:
    """An archive, and the module that was loaded from it."""
    path = tmp_path / "app.pyz"
    write_zip(path, "x = 1")
    monkeypatch.syspath_prepend(str(path))
    yield path, importlib.import_module("zipped_flow")
    del sys.modules["zipped_flow"]


def test_module_from_a_zip_has_the_hash_of_the_zip(zipped: tuple[Path, types.ModuleType]) -> None:
    path, loaded = zipped
    assert loaded.__file__ == str(path / "zipped_flow.py")
    before = code_of(loaded)
    assert before == [f"{path}/zipped_flow.py {content_of(str(path))}"]
    write_zip(path, "x = 2")
    assert code_of(loaded) != before
    path.unlink()
    assert code_of(loaded) == [f"{path}/zipped_flow.py gone"]


def test_zip_inside_a_zip_has_the_hash_of_the_outer_one(tmp_path: Path) -> None:
    path = tmp_path / "outer.zip"
    write_zip(path, "x = 1")
    assert content_of(f"{path}/inner.zip/flow.py") == content_of(str(path))


# --- files that cannot be read ---


def test_missing_file_is_marked_as_gone(tmp_path: Path) -> None:
    assert content_of(str(tmp_path / "missing.py")) == "gone"
    assert content_of(str(tmp_path / "missing" / "deep" / "flow.py")) == "gone"


def test_file_deleted_after_stat_is_marked_as_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "flow.py"
    path.write_text("x = 1")
    status = os.stat(path)
    path.unlink()
    monkeypatch.setattr(os, "stat", lambda path: status)
    assert content_of(str(path)) == "gone"


def test_folder_has_no_content(tmp_path: Path) -> None:
    assert content_of(str(tmp_path)) == "folder"


def test_loop_of_links_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.py").symlink_to(tmp_path / "b.py")
    (tmp_path / "b.py").symlink_to(tmp_path / "a.py")
    assert code_of(module(__file__=str(tmp_path / "a.py")))[0].endswith(".py unreadable")


def test_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    assert content_of(str(tmp_path / "pipe.py")) == "unreadable"


def refuse(*args: object) -> Any:
    raise PermissionError(13, "Permission denied")


def test_file_in_a_closed_folder_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "flow.py"
    path.write_text("x = 1")
    monkeypatch.setattr(user_code, "_hash_of_file", refuse)
    assert content_of(str(path)).startswith("unreadable 5 ")
    monkeypatch.setattr(os, "stat", refuse)
    assert content_of(str(path)) == "unreadable"


@pytest.mark.parametrize("name", ["null\0.py", "\ud800.py", "x" * 5000, "<string>", "flow.py"])
def test_name_that_is_no_path_is_marked(name: str) -> None:
    ((line),) = code_of(module(__file__=name))
    assert line.rsplit(" ", 1)[1] in ("gone", "unreadable")


def test_file_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"\xff.py")
    with open(path, "wb") as file:
        file.write(b"x = 1")
    ((line),) = code_of(module(__file__=os.fsdecode(path)))
    assert len(line.rsplit(" ", 1)[1]) == 64


# --- which modules ---


@pytest.mark.parametrize(
    ("path", "installed"),
    [
        ("/usr/lib/python3.11/json/decoder.py", True),
        ("/usr/lib/python3/dist-packages/yaml/__init__.py", True),
        ("/opt/venv/lib/python3.11/site-packages/numpy/__init__.py", True),
        ("/usr/src/app/flow.py", False),
        ("/usr/lib/python3.11-flows/flow.py", False),
        ("/app/flow.py", False),
    ],
)
def test_code_outside_of_pythons_folders_is_the_users(path: str, installed: bool) -> None:
    assert is_installed(path, ("/usr/lib/python3.11", "/opt/workflow/")) is installed


def test_standard_library_and_this_library_are_left_out() -> None:
    import json

    stdlib = Path(sysconfig.get_path("stdlib"))
    assert Path(str(json.__file__)).is_relative_to(stdlib)
    assert code_of(json, user_code, pytest) == []
    assert code_of(sys.modules[__name__]) != []


def test_modules_loaded_meanwhile_do_not_disturb() -> None:
    modules: dict[str, Any] = {}

    class Importing:
        def __getattr__(self, name: str) -> Any:
            modules[f"m{len(modules)}"] = module()
            raise AttributeError(name)

    modules |= {str(number): Importing() for number in range(10)}
    assert loaded_code(modules) == []
    assert len(modules) == 20


def test_modules_loaded_by_other_threads_do_not_disturb() -> None:
    modules: dict[str, Any] = {str(number): module() for number in range(100)}
    done = threading.Event()

    def load() -> None:
        while not done.is_set() and len(modules) < 2_000:
            modules[f"t{len(modules)}"] = module()

    thread = threading.Thread(target=load)
    thread.start()
    try:
        assert [loaded_code(modules) for _ in range(20)] == [[]] * 20
    finally:
        done.set()
        thread.join()


def test_file_of_a_proxy_is_found(tmp_path: Path) -> None:
    import wrapt

    assert file_of(wrapt.ObjectProxy(module(__file__="/app/flow.py"))) == "/app/flow.py"
