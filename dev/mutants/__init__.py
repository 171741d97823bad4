"""`make mutants`: mutation tests of the pure modules, in bounded time.

A mutant is a copy of a module with one small change, such as `<=` instead of `<`. A mutant that no test notices shows
either a missing test or a change without effect. `equivalents.yaml` lists the latter, each with its reason.

`making` and `extra_operators` make mutants with the operators of mutmut, and `selection` chooses the tests of each
mutant. `running` runs these tests in forked processes, `equivalents` reads the list, and `report` formats the result.
"""
