"""A linter for the project's English: documents, docstrings, comments, messages and descriptions.

`python -m dev.prose [PATH...]` lists the findings; `make check` runs it over the whole checkout. The rules on words
and sentences are data in `dev/styles/`, in the rule format of Vale. The rules on form are in `forms.py`.
"""
