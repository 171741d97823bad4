"""Sources of user modules with a function `f`, for the tests of digests and stored functions."""

from __future__ import annotations

WRAPPING = """
    import functools
    def wrapped(n):
        def wrap(function):
            @functools.wraps(function)
            def call(*args, **kwargs): return n, function(*args, **kwargs)
            return call
        return wrap
    def nameless(function):
        return lambda *args: function(*args)
"""
"""A module with decorators, for the sources below."""

SAME_SOURCE = {
    "plain function": "def f(x):\n    return x + 1",
    "set of constants": "def f(x):\n    return x in {'a', 'b', 'c', 'd', 1, 2.5, None}",
    "frozen set as a constant": "NAMES = frozenset({'a', 'b', 'c', 'd'})\ndef f(x):\n    return x in NAMES",
    "recursion": "def f(n):\n    return n and g(n - 1)\ndef g(n):\n    return n and f(n - 1)",
    "recursion of classes": """
        class A:
            def make(self): return B()
        class B(A):
            def make(self): return A()
        def f(): return A().make()
    """,
    "decorated step": """
        import workflow
        @workflow.step(max_retries=3)
        def f(n): return f.step(n - 1) if n else g.step()
        @workflow.step
        def g(): return f
    """,
    "step of a factory": """
        import workflow
        def make(n):
            def inner(x): return x * n
            return inner
        f = workflow.step(make(2))
    """,
    "dataclass": """
        import dataclasses
        @dataclasses.dataclass
        class P:
            x: int = 1
            y: list = dataclasses.field(default_factory=list)
        def f(): return P()
    """,
    "enum": """
        import enum
        class E(enum.Enum):
            A = enum.auto()
            B = "b"
            def text(self): return self.name
        def f(): return E.A.text()
    """,
    "named tuple": "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int = 1\ndef f(): return P()",
    "abstract class": """
        import abc
        class A(abc.ABC):
            @abc.abstractmethod
            def m(self): ...
        class B(A):
            def m(self): return 1
        def f(): return B().m()
    """,
    "generic class": """
        from typing import Generic, TypeVar
        T = TypeVar("T")
        class Box(Generic[T]):
            def get(self) -> T: ...
        def f(): return Box[int]()
    """,
    "partial": "import functools\ndef g(x, y): return x\nf = functools.partial(g, 1)",
    "cached helper": "import functools\n@functools.cache\ndef g(x): return x\ndef f(): return g(1)",
    "surrogates and numbers": "def f():\n    return '\\udc80', float('nan'), -0.0, 1e400, 3j, b'\\xff', ...",
}
"""Sources of modules with a function `f`."""

STATE = {
    "counter": ("N = 0\ndef f():\n    global N\n    N += 1\n    return N", "m.f()"),
    "placeholder": ("_c = None\ndef f():\n    global _c\n    _c = _c or object()", "m.f()"),
    "placeholder for a function": ("_c = None\ndef g(): ...\ndef f():\n    global _c\n    _c = g", "m.f()"),
    "placeholder for a module": ("_c = None\ndef f():\n    global _c\n    import json as _c", "m.f()"),
    "name that is made late": ("def f():\n    global made\n    made = f", "m.f()"),
    "cache in a dict": ("_c = {}\ndef f(x):\n    return _c.setdefault(x, x)", "m.f(1)"),
    "list that grows": ("seen = [1]\ndef f():\n    seen.append(1)", "m.f()"),
    "process id": ("import os\nPID = os.getpid()\ndef f(): return PID", ""),
    "time": ("import time\nSTART = time.time_ns()\ndef f(): return START", ""),
    "environment": ("import os\nHOME = os.environ.get('X_TEST_STATE', '1')\ndef f(): return HOME", ""),
    "memory address": ("TEXT = repr(object())\ndef f(): return TEXT", ""),
    "lock": ("import threading\nLOCK = threading.Lock()\ndef f():\n    with LOCK: return 1", ""),
    "counter of a class": ("class C:\n    n = 0\ndef f():\n    C.n += 1", "m.f()"),
    "single object of a class": ("class C:\n    only = None\ndef f():\n    C.only = C()", "m.f()"),
    "attribute that a class gets late": ("class C: ...\ndef f():\n    C.late = 3", "m.f()"),
    "annotations that were read": ("class C: ...\ndef f(): return C", "m.C.__annotations__"),
    "subclass of an abstract class": (
        "import abc\nclass A(abc.ABC): ...\ndef f(): return A",
        "m.A.register(int), isinstance(1, m.A)",
    ),
    "counter in a closure": (
        "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n    return f\nf = make()",
        "m.f()",
    ),
    "used cache": ("import functools\n@functools.cache\ndef g(): return 1\ndef f(): return g()", "m.f()"),
    "cached property": (
        "import functools as t\nclass C:\n    @t.cached_property\n    def p(self): return 1\nc = C()\n"
        "def f(): return c.p",
        "m.f()",
    ),
    "specialized byte code": ("def f(x=1):\n    return x + 1", "[m.f() for _ in range(100)]"),
    "function that is traced": ("def f(x=1):\n    return x + 1", "sys.settrace(lambda *a: None), m.f()"),
}
"""A source, and a program that changes the state of its module `m`."""

CHANGES = {
    "body": ("def f(): return 1", "def f(): return 2"),
    "try block": (
        "def f():\n    try: return 1\n    except ValueError: return 2",
        "def f():\n    try: return 1\n    except KeyError: return 2",
    ),
    "default": ("def f(x=1): return x", "def f(x=2): return x"),
    "keyword default": ("def f(*, x=1): return x", "def f(*, x=2): return x"),
    "date as a default": (
        "import datetime\ndef f(x=datetime.date(1, 1, 1)): return x",
        "import datetime\ndef f(x=datetime.date(1, 1, 2)): return x",
    ),
    "function as a default": (
        "def g(): return 1\ndef f(x=g): return x()",
        "def g(): return 2\ndef f(x=g): return x()",
    ),
    "type of a constant": ("def f(): return 1", "def f(): return True"),
    "sign of zero": ("def f(): return 0.0", "def f(): return -0.0"),
    "helper": ("def g(): return 1\ndef f(): return g()", "def g(): return 2\ndef f(): return g()"),
    "helper of a helper": (
        "def h(): return 1\ndef g(): return h()\ndef f(): return g()",
        "def h(): return 2\ndef g(): return h()\ndef f(): return g()",
    ),
    "helper in an inner function": (
        "def g(): return 1\ndef f(): return (lambda: [g() for _ in '1'])()",
        "def g(): return 2\ndef f(): return (lambda: [g() for _ in '1'])()",
    ),
    "helper step": (
        "import workflow\n@workflow.step\ndef g(): return 1\ndef f(): return g.step()",
        "import workflow\n@workflow.step\ndef g(): return 2\ndef f(): return g.step()",
    ),
    "options of a helper step": (
        "import workflow\n@workflow.step(max_retries=2)\ndef g(): return 1\ndef f(): return g.step()",
        "import workflow\n@workflow.step(max_retries=3)\ndef g(): return 1\ndef f(): return g.step()",
    ),
    "argument of a partial": (
        "import functools\ndef h(x): return x\ng = functools.partial(h, 1)\ndef f(): return g()",
        "import functools\ndef h(x): return x\ng = functools.partial(h, 2)\ndef f(): return g()",
    ),
    "cached helper": (
        "import functools\n@functools.lru_cache\ndef g(): return 1\ndef f(): return g()",
        "import functools\n@functools.lru_cache\ndef g(): return 2\ndef f(): return g()",
    ),
    "method": (
        "class C:\n    def m(self): return 1\ndef f(): return C().m()",
        "class C:\n    def m(self): return 2\ndef f(): return C().m()",
    ),
    "class method": (
        "class C:\n    @classmethod\n    def m(cls): return 1\ndef f(): return C.m()",
        "class C:\n    @classmethod\n    def m(cls): return 2\ndef f(): return C.m()",
    ),
    "static method": (
        "class C:\n    @staticmethod\n    def m(): return 1\ndef f(): return C.m()",
        "class C:\n    @staticmethod\n    def m(): return 2\ndef f(): return C.m()",
    ),
    "property": (
        "class C:\n    @property\n    def m(self): return 1\ndef f(): return C().m",
        "class C:\n    @property\n    def m(self): return 2\ndef f(): return C().m",
    ),
    "setter": (
        "class C:\n    m = property(None, lambda self, x: 1)\ndef f(): C().m = 1",
        "class C:\n    m = property(None, lambda self, x: 2)\ndef f(): C().m = 1",
    ),
    "cached property": (
        "import functools\nclass C:\n    @functools.cached_property\n    def m(self): return 1\ndef f(): return C().m",
        "import functools\nclass C:\n    @functools.cached_property\n    def m(self): return 2\ndef f(): return C().m",
    ),
    "method of a global object": (
        "class C:\n    def m(self): return 1\nc = C()\ndef f(): return c.m()",
        "class C:\n    def m(self): return 2\nc = C()\ndef f(): return c.m()",
    ),
    "argument of a global object": (
        "class C:\n    def __init__(self, n): self.n = n\nc = C(1)\ndef f(): return c.n",
        "class C:\n    def __init__(self, n): self.n = n\nc = C(2)\ndef f(): return c.n",
    ),
    "attribute of a class": ("class C:\n    n = 1\ndef f(): return C.n", "class C:\n    n = 2\ndef f(): return C.n"),
    "dict of a class": (
        "class C:\n    n = {'a': 1}\ndef f(): return C.n",
        "class C:\n    n = {'a': 2}\ndef f(): return C.n",
    ),
    "nested class": (
        "class C:\n    class D:\n        n = 1\ndef f(): return C.D.n",
        "class C:\n    class D:\n        n = 2\ndef f(): return C.D.n",
    ),
    "base class": (
        "class A: x = 1\nclass B: x = 2\nclass C(A): ...\ndef f(): return C.x",
        "class A: x = 1\nclass B: x = 2\nclass C(B): ...\ndef f(): return C.x",
    ),
    "method of a base class": (
        "class A:\n    def m(self): return 1\nclass C(A): ...\ndef f(): return C().m()",
        "class A:\n    def m(self): return 2\nclass C(A): ...\ndef f(): return C().m()",
    ),
    "metaclass": (
        "class M(type):\n    def m(cls): return 1\nclass C(metaclass=M): ...\ndef f(): return C.m()",
        "class M(type):\n    def m(cls): return 2\nclass C(metaclass=M): ...\ndef f(): return C.m()",
    ),
    "enum member": (
        "import enum\nclass E(enum.Enum):\n    A = 1\ndef f(): return E.A",
        "import enum\nclass E(enum.Enum):\n    A = 2\ndef f(): return E.A",
    ),
    "alias in an enum": (
        "import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\n    C = 1\ndef f(): return E.C",
        "import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\n    C = 2\ndef f(): return E.C",
    ),
    "method of an enum": (
        "import enum\nclass E(enum.Enum):\n    A = 1\n    def m(self): return 1\ndef f(): return E.A.m()",
        "import enum\nclass E(enum.Enum):\n    A = 1\n    def m(self): return 2\ndef f(): return E.A.m()",
    ),
    "field of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int = 1\ndef f(): return P()",
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int = 2\ndef f(): return P()",
    ),
    "factory of a dataclass field": (
        "import dataclasses as d\n@d.dataclass\nclass P:\n    x: int = d.field(default_factory=lambda: 1)\n"
        "def f(): return P()",
        "import dataclasses as d\n@d.dataclass\nclass P:\n    x: int = d.field(default_factory=lambda: 2)\n"
        "def f(): return P()",
    ),
    "frozen dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\ndef f(): return P(1)",
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass P:\n    x: int\ndef f(): return P(1)",
    ),
    "field of a named tuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int = 1\ndef f(): return P()",
        "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int = 2\ndef f(): return P()",
    ),
    "literal": ("N = 1\ndef f(): return N", "N = 2\ndef f(): return N"),
    "literal with a type": ("N: int = 1\ndef f(): return N", "N: int = 2\ndef f(): return N"),
    "two names for a literal": ("N = M = 1\ndef f(): return N", "N = M = 2\ndef f(): return N"),
    "tuple of names": ("N, M = 1, 2\ndef f(): return M", "N, M = 1, 3\ndef f(): return M"),
    "product of literals": ("N = 60 * 60\ndef f(): return N", "N = 60 * 61\ndef f(): return N"),
    "literal of another literal": ("A = 1\nN = A\ndef f(): return N", "A = 2\nN = A\ndef f(): return N"),
    "dict": ("N = {'a': 1}\ndef f(): return N", "N = {'a': 2}\ndef f(): return N"),
    "dict that is updated": (
        "N = {}\nN['a'] = 1\ndef f(): return N",
        "N = {}\nN['a'] = 2\ndef f(): return N",
    ),
    "list that is extended": (
        "N = []\nN.append(1)\ndef f(): return N",
        "N = []\nN.append(2)\ndef f(): return N",
    ),
    "set": ("N = {1, 2}\ndef f(): return N", "N = {1, 3}\ndef f(): return N"),
    "literal in a branch": (
        "import sys\nif sys.argv:\n    N = 1\nelse:\n    N = 2\ndef f(): return N",
        "import sys\nif sys.argv:\n    N = 1\nelse:\n    N = 3\ndef f(): return N",
    ),
    "function in a dict": (
        "def g(): return 1\nN = {'g': g}\ndef f(): return N['g']()",
        "def g(): return 2\nN = {'g': g}\ndef f(): return N['g']()",
    ),
    "function without a name in a decorator": (
        "from wrapping import nameless\n@nameless\ndef f(): return 1",
        "from wrapping import nameless\n@nameless\ndef f(): return 2",
    ),
    "registered function": (
        "N = {}\ndef add(g): N[g.__name__] = g\n@add\ndef g(): return 1\ndef f(): return N['g']()",
        "N = {}\ndef add(g): N[g.__name__] = g\n@add\ndef g(): return 2\ndef f(): return N['g']()",
    ),
    "imported name": (
        "from os.path import join as g\ndef f(): return g()",
        "from os.path import split as g\ndef f(): return g()",
    ),
    "imported module": ("import json as g\ndef f(): return g", "import csv as g\ndef f(): return g"),
    "function within a decorator": (
        "import workflow\nfrom wrapping import wrapped\n@workflow.step\n@wrapped(1)\ndef f(): return 1",
        "import workflow\nfrom wrapping import wrapped\n@workflow.step\n@wrapped(1)\ndef f(): return 2",
    ),
    "helper of a function within a decorator": (
        "from wrapping import wrapped\ndef g(): return 1\n@wrapped(1)\ndef f(): return g()",
        "from wrapping import wrapped\ndef g(): return 2\n@wrapped(1)\ndef f(): return g()",
    ),
    "argument of a decorator": (
        "from wrapping import wrapped\n@wrapped(1)\ndef f(): return 1",
        "from wrapping import wrapped\n@wrapped(2)\ndef f(): return 1",
    ),
    "argument of a factory": (
        "def make(n):\n    def inner(): return n\n    return inner\nf = make(1)",
        "def make(n):\n    def inner(): return n\n    return inner\nf = make(2)",
    ),
    "function for a partial": (
        "import functools\ndef g(x): return 1\nf = functools.partial(g, 1)",
        "import functools\ndef g(x): return 2\nf = functools.partial(g, 1)",
    ),
    "method as a step": (
        "import workflow\nclass C:\n    @workflow.step\n    def f(self): return 1\nf = C.f",
        "import workflow\nclass C:\n    @workflow.step\n    def f(self): return 2\nf = C.f",
    ),
}  # fmt: skip

NO_CHANGES = {
    "comment": ("def f(): return 1", "# a comment\n\n\ndef f():\n    # another\n\n    return 1  # a third"),
    "function that is not used": ("def f(): return 1\ndef g(): return 1", "def f(): return 1\ndef g(): return 2"),
    "constant that is not used": ("N = 1\ndef f(): return 1", "N = 2\ndef f(): return 1"),
    "spelling of a literal": ("N = 'a'\ndef f(): return N", 'N = (  # a name\n    "a"\n)\ndef f(): return N'),
    "order of functions": (
        "def g(): return 1\ndef f(): return g()",
        "def f(): return g()\n\n\ndef g(): return 1",
    ),
    "import of another name": (
        "from os.path import join\ndef f(): return join",
        "from os.path import dirname, join\ndef f(): return join",
    ),
    "options of the step": (
        "import workflow\n@workflow.step\ndef f(): return 1",
        "import workflow\n@workflow.step(max_retries=3)\ndef f(): return 1",
    ),
}
