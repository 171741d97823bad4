"""The rules on words and sentences, which are data: `dev/styles/RayWorkflow/*.yml` in the rule format of Vale.

Supported are the fields `extends` (existence, substitution, occurrence), `message`, `level`, `ignorecase`, `scope`
(text, sentence), `tokens`, `swap`, `token` and `max`. `kinds` is ours: `all` blocks, or only `running` text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from dev import paths
from dev.prose.blocks import RUNNING_TEXT, Block, Finding, Kind, sentences, without_code

STYLES: Final = paths.ROOT / "dev" / "styles"
_KINDS: Final = {"all": frozenset(Kind), "running": RUNNING_TEXT}


@dataclass(frozen=True)
class Rule:
    """One rule of a style.

    Attributes:
        name: the name of its file, without the suffix.
        message: the text of a finding, with `%s` for the match; for a substitution, for the new and the old term.
        error: whether a finding fails the check.
        kinds: the kinds of block it applies to.
        by_sentence: whether it reads single sentences instead of whole blocks.
        pattern: what it looks for, one named group for each alternative.
        terms: the term to write instead of each alternative; empty if there is none.
        limit: how many matches are allowed in one scope.
    """

    name: str
    message: str
    error: bool
    kinds: frozenset[Kind]
    by_sentence: bool
    pattern: re.Pattern[str]
    terms: tuple[str, ...]
    limit: int

    def findings(self, block: Block, text: str, parts: Sequence[tuple[int, str]]) -> Iterator[Finding]:
        """Apply the rule to one block.

        Args:
            block: any block of a file.
            text: its prose without code, of the same length as the original.
            parts: the sentences of `text` with their offsets.
        """
        if block.kind not in self.kinds or (self.by_sentence and not block.sentences):
            return
        for start, part in parts if self.by_sentence else [(0, text)]:
            matches = list(self.pattern.finditer(part))
            if self.limit:
                if len(matches) > self.limit:
                    yield self._finding(_line(block, text, start), str(len(matches)), " ".join(part.split()[:5]))
                continue
            for match in matches:
                found = " ".join(match[0].split())
                instead = self.terms[int(match.lastgroup[1:])] if match.lastgroup else ""
                yield self._finding(_line(block, text, start + match.start()), *filter(None, (instead, found)))

    def _finding(self, line: int, *values: str) -> Finding:
        message = self.message
        for value in values:
            message = message.replace("%s", value, 1)
        return Finding(line, self.name, message, self.error)


def _line(block: Block, text: str, offset: int) -> int:
    return block.line + text.count("\n", 0, offset)


def parse(name: str, data: dict[str, Any]) -> Rule:
    """Read one rule.

    Args:
        name: the rule's name.
        data: the content of its file.
    """
    flags = re.IGNORECASE if data.get("ignorecase") else re.RegexFlag(0)
    if data["extends"] == "occurrence":
        terms, pattern = tuple[str, ...](), data["token"]
    else:
        swap: dict[str, str] = data.get("swap") or dict.fromkeys(data["tokens"], "")
        terms = tuple(swap.values())
        pattern = _whole_words("|".join(f"(?P<t{number}>{term})" for number, term in enumerate(swap)))
    return Rule(
        name=name,
        message=data["message"],
        error=data.get("level", "error") == "error",
        kinds=_KINDS[data.get("kinds", "all")],
        by_sentence=data.get("scope") == "sentence",
        pattern=re.compile(pattern, flags),
        terms=terms,
        limit=data.get("max", 0),
    )


def _whole_words(term: str) -> str:
    # A term of several words may be broken across lines; a look-behind has a fixed width.
    broken = re.sub(r"(\(\?<[!=][^)]*\))| ", lambda found: found[1] or r"\s+", term)
    return rf"(?:(?<![\w-])|(?=\W))(?:{broken})(?![\w-])"


@dataclass(frozen=True)
class Style:
    """All rules, and the phrases that they must leave alone.

    Attributes:
        rules: what is looked for.
        accepted: phrases that are standard terms although a rule matches a word of them, each with the files it
            is accepted in (a glob pattern).
    """

    rules: tuple[Rule, ...]
    accepted: tuple[tuple[re.Pattern[str], str], ...] = ()

    def findings(self, path: Path, blocks: Iterable[Block]) -> Iterator[Finding]:
        """Apply all rules to the blocks of one file.

        Args:
            path: the file's name in the checkout.
            blocks: its prose.
        """
        accepted = [phrase for phrase, files in self.accepted if path.match(files)]
        for block in blocks:
            text = without_code(block.text)
            for phrase in accepted:
                text = phrase.sub(lambda found: re.sub(r"\w", "x", found[0]), text)
            parts = sentences(text)
            for rule in self.rules:
                yield from rule.findings(block, text, parts)


def load(folder: Path = STYLES) -> Style:
    """Read the style of the project.

    Args:
        folder: the folder with `RayWorkflow/*.yml` and `accept.yml`.
    """
    rules = [
        parse(file.stem, yaml.safe_load(file.read_text(encoding="utf-8")))
        for file in sorted((folder / "RayWorkflow").glob("*.yml"))
    ]
    accept = yaml.safe_load((folder / "accept.yml").read_text(encoding="utf-8")) or []
    phrases = [(re.compile(_whole_words(each["phrase"]), re.IGNORECASE), each.get("files", "*")) for each in accept]
    return replace(Style(tuple(rules)), accepted=tuple(phrases))
