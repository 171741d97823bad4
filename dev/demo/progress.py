"""Shows a run as it goes: a live picture on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from workflow.reading import RunView
from workflow.view import as_text


class Progress:
    """Alive inside a `with` block; every line begins with the seconds since then."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=5) if self._console.is_terminal else None
        self._began = self._spoke = time.monotonic()
        self._steps = ""
        self._view: RunView | None = None

    def __enter__(self) -> Progress:
        self._began = self._spoke = time.monotonic()
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(Text(""))
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._spoke = time.monotonic()
        self._console.print(f"{self._spoke - self._began:6.1f} s  {text}", markup=False)

    def show(self, view: RunView) -> None:
        """Show where the run stands; on no terminal, a line where a step was committed."""
        if view is self._view:
            return
        self._view = view
        if self._live:
            self._live.update(Text(as_text(view)))
            return
        counts = view.counts
        steps = f"{counts.succeeded} of {counts.total} steps committed, epoch {view.epoch}"
        if steps != self._steps:
            self._steps = steps
            self.say(steps)

    def keep_alive(self, seconds: float) -> None:
        """Say something where nothing was said for so long."""
        if time.monotonic() - self._spoke >= seconds:
            self.say("..")
