"""Write scenario_repo/blocking.py, the blocking face, from the signatures and docstrings of the asynchronous surface.

    python supabase/generators/blocking.py [--check]

A coroutine becomes a method that waits for it in a portal (scenario_repo/_portal.py). What is worded or typed otherwise
for blocking code stands in WORDS; a word that is found nowhere any more is an error.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Final

from scenario_repo import client, delivery, engine, repository

ROOT: Final = Path(__file__).resolve().parents[2]
BLOCKING: Final = ROOT / "scenario_repo" / "blocking.py"

FUNCTIONS: Final = (client.open_http_client, client.connect, client.connect_as_user)
CLASSES: Final = (
    repository.ScenarioNotificationRepository,
    engine.ScenarioTriggerEngine,
    delivery.DeliveryWorker,
)

WORDS: Final = (
    # Types.
    ("-> AsyncIterator[AsyncClient]", "-> Iterator[Client]"),
    ("-> AsyncIterator[httpx.AsyncClient]", "-> Iterator[HttpClient]"),
    ("http_client: httpx.AsyncClient | None", "http_client: HttpClient | None"),
    ("client: AsyncClient", "client: Client"),
    # Words.
    ("Use the client in the event loop that\n    made it.", "Any thread of the process may\n    use it."),
    (
        (
            "Takes any ``supabase.AsyncClient``: a worker's (secret key, see :func:`scenario_repo.connect`) reads"
            " everything,\n    a signed-in user's reads"
        ),
        (
            "Takes the client of :func:`connect` or :func:`connect_as_user`: a worker's (secret key) reads"
            " everything,\n    a signed-in user's reads"
        ),
    ),
    (
        "it is none that can be awaited, such as a blocking ``supabase.Client``.",
        "it is none of this module's :func:`connect` or :func:`connect_as_user`.",
    ),
    (
        "Take a worker's repository; ``on_page`` is called after every page, to show progress.\n",
        (
            "Take a worker's repository; ``on_page`` is called after every page, to show progress.\n\n"
            "        That happens in the event loop's thread: it must not block, nor call this module.\n"
        ),
    ),
    (
        "Sends pending notifications until it is stopped.\n",
        (
            "Sends pending notifications until it is stopped.\n\n"
            "    A sender blocks, in a thread of its own. It needs its own timeout, for a thread can't be cancelled.\n"
            "    ``on_progress`` is called in the event loop's thread: it must not block, nor call this module.\n"
        ),
    ),
    (
        "Lease no more; finish and settle the running sends (a handler for SIGTERM).",
        "Lease no more; finish and settle the running sends (a handler for SIGTERM, or another thread).",
    ),
    (
        (
            "When it is cancelled, it cancels the running sends and releases their leases, so that others\n"
            "        can lease them at once."
        ),
        (
            "KeyboardInterrupt cancels the running sends and releases their leases, so that\n"
            "        others can lease them at once."
        ),
    ),
)
"""What is in the asynchronous source, and what stands for it here."""

HEADER: Final = '''\
"""The blocking face: the same surface for Celery tasks, Django views and plain scripts, without await.

::

    with connect() as client:  # SUPABASE_URL and SUPABASE_SECRET_KEY
        repository = ScenarioNotificationRepository(client)
        last = repository.get_last_sent_at(user_id, ScenarioType.INACTIVITY)

The values and the exceptions are those of :mod:`scenario_repo`. A client has an event loop in a thread of its own; any
thread of the process may use it. KeyboardInterrupt cancels what a call waits for. A client that was opened before a
fork, and a call inside a running event loop, are refused with ConfigurationException.

Generated from the asynchronous surface by `make generate`: edit supabase/generators/blocking.py.
"""

from __future__ import annotations

'''

ALIASES: Final = '''
Send = Callable[[LeasedNotification], None]
"""Delivers one notification, or raises; in a thread of its own."""
SendToDevice = Callable[[LeasedNotification, DeviceToken], None]
"""Delivers one notification to one of the user's devices, or raises; in a thread of its own."""

'''
NOT_TAKEN_OVER: Final = {"Send", "SendToDevice", *(cls.__name__ for cls in CLASSES)}
"""Names in the signatures that mean those of the blocking module itself."""


class Writer:
    """Writes the blocking twin of each thing, and remembers what it needs."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.words_used: set[str] = set()

    def reworded(self, text: str) -> str:
        """Put blocking words in the place of the others."""
        for word, other in WORDS:
            if word in text:
                self.words_used.add(word)
                text = text.replace(word, other)
        return text

    def function(self, function: Callable[..., object]) -> str:
        """Write the twin of an asynchronous context manager that opens a client."""
        function = inspect.unwrap(function)
        node, lines = _node(function)
        self._note_imports(node, sys.modules[function.__module__])
        head = self.reworded(_head(node, lines)).replace("@asynccontextmanager", "@contextmanager")
        given = _given(node)
        if function is inspect.unwrap(client.open_http_client):
            made = f"client.{function.__name__}({given})"
            return f"{head}    with _portal.opened_http_client({made}) as http:\n        yield http\n"
        given = given.replace("http_client=http_client", "http_client=http")
        made = f"lambda http: client.{function.__name__}({given})"
        return f"{head}    with _portal.opened_client({made}, http_client) as opened:\n        yield opened\n"

    def cls(self, cls: type) -> Iterator[str]:
        """Write the twin of a class, with what it inherits."""
        yield f'class {cls.__name__}:\n    """{self.reworded(_raw_docstring(cls))}"""\n'
        members: dict[str, object] = {}
        for base in cls.__mro__[:-1]:
            members = {**members, **{name: member for name, member in vars(base).items() if name not in members}}
        yield self._method(cls, "__init__", members.pop("__init__"))
        for name, member in members.items():
            if not name.startswith("_"):
                yield self._method(cls, name, member)

    def _method(self, cls: type, name: str, member: object) -> str:
        function = member.fget if isinstance(member, property) else member
        if not isinstance(function, FunctionType):
            raise TypeError(f"{cls.__name__}.{name}: expected a method or a property, got {type(member).__name__}")
        source = sys.modules[function.__module__]
        overloads = [node for node, _ in _nodes(source, function.__qualname__)][:-1]
        node, lines = _node(function)
        for one in [*overloads, node]:
            self._note_imports(one, source)
        signatures = "\n".join(self.reworded(_head(one, lines)) for one in overloads)
        head = self.reworded(_head(node, lines))
        given = _given(node)
        if name == "__init__":
            body = self._constructor(cls, node)
        elif isinstance(member, property):
            body = f"return self._twin.{name}"
        elif overloads:
            returns = ast.unparse(node.returns) if node.returns else "None"
            body = (
                f"async def begin() -> {returns}:\n    return await self._twin.{name}({given})\n\n"
                "return self._portal.call(begin)"
            )
        elif inspect.iscoroutinefunction(function):
            begin = f"lambda: self._twin.{name}({given})" if given else f"self._twin.{name}"
            body = f"return self._portal.call({begin})"
        else:
            body = f"self._portal.soon(self._twin.{name})"
        taken = _walked_once(node) if name != "__init__" else []
        body = "\n".join([*(f"{argument} = _portal.taken({argument})" for argument in taken), body])
        return textwrap.indent(textwrap.dedent(signatures), "    ") + head + textwrap.indent(body, " " * 8) + "\n"

    def _constructor(self, cls: type, node: ast.AsyncFunctionDef | ast.FunctionDef) -> str:
        first = node.args.args[1].arg
        given = _given(node)
        self.imports.add(f"from scenario_repo import {cls.__module__.rpartition('.')[2]}")
        made = f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
        if first == "client":
            return (
                "client = _portal.checked(Client, client)\n"
                f"self._portal = client.portal\nself._twin = {made}(client.supabase)"
            )
        given = given.replace("repository", "repository._twin", 1)
        given = given.replace("send,", "_portal.in_threads(send),", 1)
        given = given.replace("=send_to_device", "=_portal.in_threads(send_to_device)")
        return (
            "repository = _portal.checked(ScenarioNotificationRepository, repository)\n"
            f"self._portal = repository._portal\nself._twin = {made}({given})"
        )

    def _note_imports(self, node: ast.AsyncFunctionDef | ast.FunctionDef, module: ModuleType) -> None:
        """Remember where the names of a signature come from."""
        signature = [node.args, *node.decorator_list, *([node.returns] if node.returns else [])]
        names = {found.id for part in signature for found in ast.walk(part) if isinstance(found, ast.Name)}
        sources = _sources(module)
        for name in names - NOT_TAKEN_OVER:
            if name in sources:
                self.imports.add(sources[name])


def _sources(module: ModuleType) -> dict[str, str]:
    """Return the import statement of each name that a module has from elsewhere, or makes itself."""
    found: dict[str, str] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name: f"from {node.module} import {alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name: f"import {alias.name}" for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            found[node.name] = f"from {module.__name__} import {node.name}"
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            found |= {name: f"from {module.__name__} import {name}" for name in names}
    return found


def _nodes(module: ModuleType, qualname: str) -> list[tuple[ast.AsyncFunctionDef | ast.FunctionDef, list[str]]]:
    """Return the definitions of a function in its module: its overloads, and last itself."""
    text = inspect.getsource(module)
    *outer, name = qualname.split(".")
    body = ast.parse(text).body
    for step in outer:
        body = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == step).body
    found = [node for node in body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name == name]
    return [(node, text.splitlines(keepends=True)) for node in found]


def _node(function: Callable[..., object]) -> tuple[ast.AsyncFunctionDef | ast.FunctionDef, list[str]]:
    return _nodes(sys.modules[function.__module__], function.__qualname__)[-1]


def _head(node: ast.AsyncFunctionDef | ast.FunctionDef, lines: list[str]) -> str:
    """Return the source of decorators, signature and docstring, without its ``async``."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    last = node.body[0].end_lineno if ast.get_docstring(node) is not None else node.end_lineno
    head = "".join(lines[first - 1 : last])
    return head.replace("async def ", "def ", 1)


def _raw_docstring(cls: type) -> str:
    """Return the docstring as it stands in the source: from Python 3.13 on, ``__doc__`` has no indentation."""
    module = sys.modules[cls.__module__]
    text = inspect.getsource(module)
    node = next(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    first = node.body[0]
    segment = ast.get_source_segment(text, first)
    if ast.get_docstring(node) is None or segment is None:
        raise ValueError(f"{cls.__name__} has no docstring")
    return segment.removeprefix('"""').removesuffix('"""')


def _given(node: ast.AsyncFunctionDef | ast.FunctionDef) -> str:
    """Return the arguments as a call passes them on."""
    positional = [argument.arg for argument in node.args.args if argument.arg != "self"]
    return ", ".join([*positional, *(f"{argument.arg}={argument.arg}" for argument in node.args.kwonlyargs)])


def _walked_once(node: ast.AsyncFunctionDef | ast.FunctionDef) -> list[str]:
    """Return the arguments that may be iterators, or lazy: those are walked through in the caller's thread."""
    annotated = [(argument.arg, ast.unparse(argument.annotation)) for argument in node.args.args if argument.annotation]
    return [name for name, annotation in annotated if annotation.startswith(("Iterable[", "Collection["))]


def written() -> str:
    """Write the module, and let ruff format it."""
    writer = Writer()
    functions = [writer.function(function) for function in FUNCTIONS]
    classes = ["\n".join(writer.cls(cls)) for cls in CLASSES]
    unused = [word for word, _ in WORDS if word not in writer.words_used]
    if unused:
        raise ValueError(f"expected to find in the asynchronous source: {unused}")
    names = ["Client", "HttpClient", "Send", "SendToDevice", *(one.__name__ for one in (*FUNCTIONS, *CLASSES))]
    imports = {
        *writer.imports,
        "from collections.abc import Callable, Iterator",
        "from contextlib import contextmanager",
        "from scenario_repo import _portal, client",
        "from scenario_repo._portal import Client, HttpClient",
        "from scenario_repo.models import DeviceToken, LeasedNotification",
    }
    public = f"__all__ = {sorted(names)!r}\n"
    text = HEADER + "\n".join(sorted(imports)) + "\n\n" + public + ALIASES + "\n\n".join([*functions, *classes])
    return _ruffed(text)


def _ruffed(text: str) -> str:
    """Sort the imports, drop those that are not needed, and format."""
    ruff = (sys.executable, "-m", "ruff")
    name = ("--stdin-filename", str(BLOCKING))
    fixed = (*ruff, "check", "--quiet", "--fix-only", "--select", "I,F401,D,RUF022", *name, "-")
    for command in (fixed, (*ruff, "format", "--quiet", *name, "-")):
        run = subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603
        text = run.stdout
    return text


def main() -> int:
    """Write the module, or say whether it is the one that would be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the file is not up to date")
    options = parser.parse_args()
    text = written()
    if not options.check:
        BLOCKING.write_text(text, encoding="utf-8")
    elif not BLOCKING.exists() or BLOCKING.read_text(encoding="utf-8") != text:
        print(f"{BLOCKING.name} is not what the asynchronous surface says: run `make generate`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
