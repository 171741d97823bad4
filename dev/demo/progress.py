"""Progress display of a run: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from workflow.reading import RunView
from workflow.view import as_text


class Progress:
    """A progress display inside a `with` block. Each line starts with the seconds since the block was entered."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=5) if self._console.is_terminal else None
        self._started = self._last_output = time.monotonic()
        self._step_counts = ""
        self._view: RunView | None = None

    def __enter__(self) -> Progress:
        self._started = self._last_output = time.monotonic()
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(Text(""))
            self._live.stop()

    def print_line(self, text: str) -> None:
        """Print a line that stays on the screen."""
        self._last_output = time.monotonic()
        self._console.print(f"{self._last_output - self._started:6.1f} s  {text}", markup=False)

    def update(self, view: RunView) -> None:
        """Show the state of the run: refresh the live view, or print a line if the step counts changed."""
        if view is self._view:
            return
        self._view = view
        if self._live:
            self._live.update(Text(as_text(view)))
            return
        counts = view.counts
        step_counts = f"{counts.succeeded} of {counts.total} steps committed, epoch {view.epoch}"
        if step_counts != self._step_counts:
            self._step_counts = step_counts
            self.print_line(step_counts)

    def print_waiting(self, interval: float) -> None:
        """Print a progress line if nothing was printed for the interval.

        Args:
            interval: the interval in seconds.
        """
        if time.monotonic() - self._last_output >= interval:
            self.print_line("..")
