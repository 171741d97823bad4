"""If a worker cannot import the library, the error names the file that hides it, or how to install it."""

from __future__ import annotations

from pathlib import Path

import pytest

import workflow
from workflow.engine.driver import worker_imports

RAY_TEXT = """The actor died because of an error raised in its creation task, ray::manager-1:ManagerActor.__init__()
    raise self._exception
RuntimeError: The actor with name ManagerActor failed to import on the worker. This may be because needed library \
dependencies are not installed in the worker environment:

ray::manager-1:ManagerActor.__init__() (pid=1, ip=192.0.2.2)
          ^^^^^^^^^^^
{reason}"""


@pytest.mark.parametrize(
    ("reason", "hiding", "advice"),
    [
        pytest.param(
            "ModuleNotFoundError: No module named 'workflow.engine'; 'workflow' is not a package",
            "/app/workflow.py",
            "rename /app/workflow.py: it hides this library in workers",
            id="a module, known",
        ),
        pytest.param(
            "ModuleNotFoundError: No module named 'workflow.engine'",
            "",
            "rename a file workflow.py or a folder workflow in working_dir, py_modules",
            id="a package, unknown",
        ),
        pytest.param(
            "ModuleNotFoundError: No module named 'workflow'", "", r"install rayworkflow\[ray\]", id="no library"
        ),
        pytest.param(
            "ModuleNotFoundError: No module named 'minio'", "/app/workflow.py", "install ray", id="other module"
        ),
        pytest.param("", "", "the reason is in the log of the worker; install", id="no reason"),
    ],
)
def test_worker_that_cannot_import_is_explained(reason: str, hiding: str, advice: str) -> None:
    error = worker_imports.explained(RAY_TEXT.format(reason=reason), hiding)
    with pytest.raises(workflow.errors.InvalidInputError, match=f"cannot import this library: .*{advice}"):
        raise error or AssertionError("it is not explained")


def test_other_ends_of_an_actor_are_left_alone() -> None:
    assert worker_imports.explained("The actor died because its node has died.", "/app/workflow.py") is None


def test_file_that_hides_the_library_is_found(tmp_path: Path) -> None:
    library = next(iter(workflow.__path__))
    above = str(Path(library).parent)
    assert worker_imports.hiding_file([above, str(tmp_path)], library) == ""
    (tmp_path / "workflow").mkdir()  # without __init__.py, another folder of the path comes first
    assert worker_imports.hiding_file([str(tmp_path)], library) == ""
    (tmp_path / "workflow.py").touch()
    assert worker_imports.hiding_file([above, str(tmp_path)], library) == str(tmp_path / "workflow.py")
    (tmp_path / "workflow" / "__init__.py").touch()
    assert worker_imports.hiding_file([str(tmp_path)], library) == str(tmp_path / "workflow" / "__init__.py")
    assert worker_imports.folders_here()
