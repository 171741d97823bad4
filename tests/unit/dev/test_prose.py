"""The prose linter: what is read as prose, which rule finds what, and in which line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from dev.prose import blocks, forms, markup, python_source, rules
from dev.prose.__main__ import check
from dev.prose.blocks import Kind

STYLE = rules.load()


def found(path: str, text: str, style: rules.Style = STYLE) -> list[tuple[int, str]]:
    return [(finding.line, finding.rule) for finding in check(Path(path), text, style)]


SOURCE = '''"""Read a run.

    tree    of words that are no sentences
"""

LIMIT = 3
"""Seconds until a retry."""


def read(name, times):  # at the end
    """Read it.

    Args:
        name: of the run, which
            is known.
        times: seconds.

    Returns:
        The run.
    """
    # One comment
    # of two lines.
    logger.info("the run %s is read", name)
    if not name:
        raise ValueError(f"no run {name!r}: name one")
    return {"key": "word", "text": "three words here"}  # noqa: E501
'''


def test_each_kind_of_prose_is_read_with_its_line() -> None:
    read = python_source.blocks(SOURCE, ast.parse(SOURCE))
    assert sorted((block.line, block.kind, " ".join(block.text.split())) for block in read if block.text.strip()) == [
        (1, Kind.DOCSTRING, "Read a run."),
        (3, Kind.DOCSTRING, "tree of words that are no sentences"),
        (7, Kind.DOCSTRING, "Seconds until a retry."),
        (10, Kind.COMMENT, "at the end"),
        (11, Kind.DOCSTRING, "Read it."),
        (14, Kind.DOCSTRING, "of the run, which is known."),
        (16, Kind.DOCSTRING, "seconds."),
        (19, Kind.DOCSTRING, "The run."),
        (21, Kind.COMMENT, "One comment of two lines."),
        (23, Kind.MESSAGE, "the run %s is read"),
        (25, Kind.ERROR, "no run X: name one"),
        (26, Kind.STRING, "three words here"),
    ]


def test_only_paragraphs_consist_of_sentences() -> None:
    docstring = "Read a run.\n\n        key  a table\n\n    The end."
    read = python_source.docstring_blocks(docstring, 1, 4)
    assert {block.line: block.sentences for block in read} == {1: True, 3: False, 5: True}


MARKDOWN = """# A heading

First line
and the second.

- an item
  goes on
- another

| cell | `code` |
|---|---|
| more | cells |

```console
$ not prose
```
<!-- not
prose -->
> A quote.
"""


def test_markdown_is_read_without_fenced_code() -> None:
    assert [(block.line, " ".join(block.text.split())) for block in markup.markdown(MARKDOWN)] == [
        (1, "A heading"),
        (3, "First line and the second."),
        (6, "an item goes on"),
        (8, "another"),
        (10, "cell"),
        (10, "`code`"),
        (12, "more"),
        (12, "cells"),
        (19, "A quote."),
    ]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        pytest.param("a.yaml", "# one\n# two\nkey: 1 # three\n", [(1, "one\ntwo"), (3, "three")], id="yaml comments"),
        pytest.param("a.yaml", "x:\n  description: 'A\n    B'\n  type: t\n", [(2, "A\n    B")], id="yaml description"),
        pytest.param("a.json", '{"x": {"description": "A \\"b\\""}}', [(1, 'A "b"')], id="json description"),
        pytest.param("NOTES.txt", "Hi {{ .V }}.\n  kubectl get x\n", [(1, "Hi X.")], id="notes without commands"),
        pytest.param("Makefile", "x: y ## help\n\tcmd\n", [(1, "help")], id="help of a Makefile"),
        pytest.param("run", "#!/bin/sh\n# one\n", [(2, "one")], id="script"),
        pytest.param("data.csv", "# one\n", [], id="not prose"),
        pytest.param("a.html", "<p>Two words</p>\n<b>one</b>", [(1, "Two words")], id="page"),
    ],
)
def test_other_files_are_read_by_their_names(path: str, text: str, expected: list[tuple[int, str]]) -> None:
    assert [(block.line, block.text) for block in markup.blocks(Path(path), text)] == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("`tells`", id="code"),
        pytest.param("``a`tells``", id="double quotes of code"),
        pytest.param("[link](tells.md)", id="target of a link"),
        pytest.param("see https://tells.example/says", id="address"),
        pytest.param("{{ .tells }}", id="template"),
        pytest.param("<!-- tells -->", id="comment of HTML"),
    ],
)
def test_what_is_not_english_is_replaced_in_place(text: str) -> None:
    cleaned = blocks.without_code(text)
    assert "tells" not in cleaned
    assert len(cleaned) == len(text)


def test_sentences_are_split_at_their_ends_only() -> None:
    text = "One, e.g. this. `Two` is 3.5 s (or so.) Three?\nFour"
    parts = blocks.sentences(text)
    assert [part for _, part in parts] == ["One, e.g. this.", "`Two` is 3.5 s (or so.)", "Three?", "Four"]
    assert all(text[offset:].startswith(part) for offset, part in parts)


LONG = "word " * 25


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("It begins\nanew.", "Dialect"),
        ("A write behind the claim.", "Dialect"),
        ("Whoever reads it.", "Dialect"),
        ("The second try fails.", "Attempt"),
        ("It waits between tries.", "Attempt"),
        ("The value stands in the log.", "State"),
        ("It lies there.", "State"),
        ("The function tells the owner.", "Speech"),
        ("The heartbeat is silent.", "Speech"),
        ("A failure is no progress.", "Negation"),
        ("It never sees nothing.", "DoubleNegative"),
        ("This is not impossible.", "DoubleNegative"),
        (LONG + "end.", "SentenceLength"),
        ("One: two; three: four.", "Chains"),
        ("It ends where it has failed.", "Where"),
        ("Where it is large, the value is stored.", "Where"),
        ("The value, or None where absent.", "WhereCondition"),
        ("Which run, and where.", "EmptyReference"),
    ],
)
def test_a_rule_finds_its_case(text: str, rule: str) -> None:
    assert rule in {name for _, name in found("a.md", text)}


@pytest.mark.parametrize(
    "text",
    [
        "The engine tries again.",
        "No temporary file is left behind.",
        "S3 behind a proxy.",
        "There is no manager.",
        "There is no longer a manager.",
        "A fake stands in for the store.",
        "The folder where it is stored.",
        "A run continues where it was.",
        "A look-behind has a fixed width.",
        "The call fails silently.",
        "The server speaks HTTP.",
        "Nothing is lost and nothing is executed twice.",
        "It fails: the key is missing.",
        LONG,
        "Call `say` to print.",
    ],
)
def test_standard_english_passes(text: str) -> None:
    assert found("a.md", text) == []


def test_a_finding_names_the_line_within_its_paragraph() -> None:
    assert found("a.md", "# Title\n\nA run\nbegins anew\nand ends anew.") == [(4, "Dialect"), (5, "Dialect")]


def test_an_accepted_phrase_is_left_alone_in_its_files_only() -> None:
    style = rules.Style(STYLE.rules, ((re.compile("for ever"), "docs/*.md"),))
    assert found("docs/errors.md", "Kept for ever.", style) == []
    assert found("README.md", "Kept for ever.", style) == [(1, "Dialect")]


@pytest.mark.parametrize(
    ("docstring", "rule"),
    [
        pytest.param("Read a run.", None, id="good"),
        pytest.param("`Run` of a user.", None, id="starts with code"),
        pytest.param("docs/states.md is current.", None, id="starts with a path"),
        pytest.param("`run(step)`", None, id="code only"),
        pytest.param("read a run.", "docstring-summary", id="small letter"),
        pytest.param("Read a run", "docstring-summary", id="no full stop"),
        pytest.param("Read a run.\n\nArgs:\n    key: where.", "docstring-entry", id="empty reference"),
        pytest.param("Read a run.\n\nArgs:\n    key: see there.", "docstring-entry", id="see there"),
        pytest.param("Read a run.\n\nArgs:\n    run_id: the run id.", "docstring-entry", id="repeats the name"),
        pytest.param("Read a run.\n\nAttributes:\n    key:", "docstring-entry", id="nothing"),
        pytest.param("Read a run.\n\nArgs:\n    key: object key in the store.", None, id="meaning"),
        pytest.param("Read a run.\n\nRaises:\n    KeyError: which.", None, id="only arguments and attributes"),
    ],
)
def test_the_form_of_a_docstring(docstring: str, rule: str | None) -> None:
    tree = ast.parse(f'"""{docstring}\n"""')
    assert [finding.rule for finding in forms.docstrings(tree)] == ([rule] if rule else [])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("cannot cancel run X: it is finished", None, id="good"),
        pytest.param("cannot cancel run X: it is finished.", True, id="full stop"),
        pytest.param("cannot cancel run X: ...", None, id="ellipsis"),
        pytest.param("gone", True, id="one word"),
        pytest.param("the run was lost", False, id="no reason"),
        pytest.param("X must be positive", None, id="states the requirement"),
    ],
)
def test_the_form_of_an_error(text: str, error: bool | None) -> None:
    findings = list(forms.errors(blocks.Block(Kind.ERROR, 1, text)))
    assert [finding.error for finding in findings] == ([] if error is None else [error])


def test_a_long_name_of_a_test_is_found() -> None:
    name = "test_" + "x" * 56
    text = f"class TestIt:\n    def {name}(self): ...\n    def {name[:-1]}(self): ...\n"
    assert found("tests/test_a.py", text) == [(2, "test-name")]
    assert found("workflow/a.py", text) == []


def test_every_accepted_phrase_has_a_reason() -> None:
    accepted = yaml.safe_load((rules.STYLES / "accept.yml").read_text()) or []
    assert all(each["reason"] for each in accepted)
