"""Shows runs to people, as text. It uses only the values that `workflow.reading` returns."""

from workflow.view.text import as_text

__all__ = ["as_text"]
