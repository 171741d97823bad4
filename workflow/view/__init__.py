"""Pure: a run as people look at it. Reads the values of `workflow.reading`, and nothing else."""

from workflow.view.text import as_text

__all__ = ["as_text"]
