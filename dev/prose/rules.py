"""The rules on words and sentences, which are data: `dev/styles/RayWorkflow/*.yml` in the rule format of Vale.

Supported are the fields `extends` (existence, substitution, occurrence), `message`, `level`, `ignorecase`, `scope`
(text, sentence), `tokens`, `swap`, `token` and `max`. `kinds` is ours: `all` blocks, or only `running` text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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
        patterns: what it looks for, each with the term to write instead.
        limit: how many matches are allowed in one scope.
    """

    name: str
    message: str
    error: bool
    kinds: frozenset[Kind]
    by_sentence: bool
    patterns: tuple[tuple[re.Pattern[str], str], ...]
    limit: int

    def findings(self, block: Block, text: str) -> Iterator[Finding]:
        """Apply the rule to one block.

        Args:
            block: the block.
            text: its text without code, of the same length.
        """
        if block.kind not in self.kinds or (self.by_sentence and not block.sentences):
            return
        for start, part in sentences(text) if self.by_sentence else [(0, text)]:
            for pattern, instead in self.patterns:
                matches = list(pattern.finditer(part))
                if self.limit and len(matches) > self.limit:
                    message = self.message.replace("%s", str(len(matches)), 1).replace("%s", _start_of(part), 1)
                    yield Finding(_line(block, text, start), self.name, message, self.error)
                elif not self.limit:
                    for match in matches:
                        words = " ".join(match[0].split())
                        message = self.message.replace("%s", instead, 1) if instead else self.message
                        message = message.replace("%s", words, 1)
                        yield Finding(_line(block, text, start + match.start()), self.name, message, self.error)


def _line(block: Block, text: str, offset: int) -> int:
    return block.line + text.count("\n", 0, offset)


def _start_of(sentence: str) -> str:
    return " ".join(sentence.split()[:5])


def parse(name: str, data: dict[str, Any]) -> Rule:
    """Read one rule.

    Args:
        name: the rule's name.
        data: the content of its file.
    """
    flags = re.IGNORECASE if data.get("ignorecase") else re.RegexFlag(0)
    terms: Iterable[tuple[str, str]] = (
        data["swap"].items()
        if data["extends"] == "substitution"
        else [(token, "") for token in data.get("tokens", [data.get("token")])]
    )
    raw = data["extends"] == "occurrence"
    patterns = tuple((re.compile(_spaced(term, raw), flags), instead) for term, instead in terms)
    return Rule(
        name=name,
        message=data["message"],
        error=data.get("level", "error") == "error",
        kinds=_KINDS[data.get("kinds", "all")],
        by_sentence=data.get("scope") == "sentence",
        patterns=patterns,
        limit=data.get("max", 0),
    )


def _spaced(term: str, raw: bool) -> str:
    # A term of several words may be broken across lines; a look-behind has a fixed width.
    broken = re.sub(r"(\(\?<[!=][^)]*\))| ", lambda found: found[1] or r"\s+", term)
    return term if raw else rf"\b(?:{broken})(?!\w)"


@dataclass(frozen=True)
class Style:
    """All rules, and the phrases that they must leave alone.

    Attributes:
        rules: the rules.
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
            for rule in self.rules:
                yield from rule.findings(block, text)


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
    phrases = [(re.compile(_spaced(each["phrase"], False), re.IGNORECASE), each.get("files", "*")) for each in accept]
    return replace(Style(tuple(rules)), accepted=tuple(phrases))
