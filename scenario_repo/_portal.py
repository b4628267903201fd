"""How blocking code gets into an event loop: a portal, which is a loop in a thread of its own, and what is open there.

:mod:`scenario_repo.blocking` is generated on top of it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Final, Generic, ParamSpec, TypeVar

import anyio
import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from supabase import AsyncClient

from scenario_repo.exceptions import ConfigurationException, InvalidDataException
from scenario_repo.senders import check

T = TypeVar("T")
P = ParamSpec("P")

_IN_A_LOOP: Final = (
    "a blocking call inside a running event loop, which it would stop: await scenario_repo's own there, "
    "or call it in a thread (asyncio.to_thread)"
)
_FORKED: Final = (
    "the client was opened before a fork, and its thread is not in this process: open one after the fork "
    "(in Celery at worker_process_init, or in the task)"
)
_CLOSED: Final = "the client is closed: use it inside the `with` block that opened it"
_CLOSED_MEANWHILE: Final = "the client was closed during the call: what the call did may be done or not"

_OF_THE_PARENT: Final[list[ExitStack]] = []
"""What a fork has left behind. Garbage collection would close it too, and wait for a thread that is not there."""


class SenderEnded(BaseException):
    """A sender raised KeyboardInterrupt or SystemExit in its thread; either would end the event loop itself."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class _Ended(Exception):  # noqa: N818 - it carries another to the caller
    """What a call raised that is no Exception: as itself it would end the portal."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error.error if isinstance(error, SenderEnded) else error


class _Call(Generic[T]):
    """One call on its way: whoever waits for it may cancel it, and learns when it has ended."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._begin = begin
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False
        self.ended = threading.Event()

    async def run(self) -> T:
        self._task = asyncio.current_task()
        if self._is_cancelled and self._task is not None:
            self._task.cancel()  # at its first await
        try:
            return await self._begin()
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            raise _Ended(error) from None
        finally:
            self.ended.set()

    async def cancel(self) -> None:
        """Cancel it once, as asyncio does: a worker still releases its leases, which anyio's scopes would not allow."""
        self._is_cancelled = True
        if self._task is None:
            self.ended.set()
        else:
            self._task.cancel()


class Portal:
    """The way into an event loop that runs in a thread of its own. Any thread of the process may use it."""

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal
        self._process = os.getpid()

    def call(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in the loop, and wait for it.

        What interrupts the wait (KeyboardInterrupt, an exception of a signal handler) cancels the coroutine, and is
        raised when that has ended; a second one is raised at once.

        Raises:
            ConfigurationException: the portal is closed or of another process, or this thread runs an event loop.

        """
        self.check()
        call = _Call(begin)
        try:
            future = self._portal.start_task_soon(call.run)
        except RuntimeError:
            future = None
        except BaseException:
            self._interrupt(call)
            raise
        if future is None:
            raise ConfigurationException(_CLOSED)
        try:
            return future.result()
        except _Ended as ended:
            error = ended.error
        except CancelledError:
            error = ConfigurationException(_CLOSED_MEANWHILE)
        except BaseException:
            if not future.done():
                self._interrupt(call)
            raise
        raise error

    def soon(self, function: Callable[[], None]) -> None:
        """Run a function in the loop and don't wait for it: also a signal handler may. A closed portal does nothing."""
        if os.getpid() == self._process:
            with suppress(RuntimeError):
                self._portal.start_task_soon(function)

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter an asynchronous context manager in the loop, and leave it there."""
        self.check()
        with _left_by_its_process(self._portal.wrap_async_context_manager(manager)) as value:
            yield value

    def check(self) -> None:
        """Refuse what would hang: a portal that a fork has left behind, or a call that stops an event loop."""
        if os.getpid() != self._process:
            raise ConfigurationException(_FORKED)
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            raise ConfigurationException(_IN_A_LOOP)

    def _interrupt(self, call: _Call[Any]) -> None:
        with suppress(RuntimeError):
            self._portal.start_task_soon(call.cancel)
            call.ended.wait()


class Client:
    """A Supabase client for blocking code, as :func:`scenario_repo.blocking.connect` opens it.

    Any thread of the process that opened it may use it, also several at once.
    """

    def __init__(self, portal: Portal, supabase: AsyncClient) -> None:
        """Keep the portal, and the client that lives in its event loop."""
        self.portal = portal
        self.supabase = supabase


class HttpClient:
    """An HTTP client whose connections several clients share, as ``scenario_repo.blocking.open_http_client`` opens it.

    The clients share its event loop and thread, too.
    """

    def __init__(self, portal: Portal, http: httpx.AsyncClient) -> None:
        """Keep the portal, and the HTTP client that lives in its event loop."""
        self.portal = portal
        self.http = http


@contextmanager
def opened() -> Iterator[Portal]:
    """Start a portal, and stop it afterwards."""
    with _left_by_its_process(start_blocking_portal("asyncio", name="scenario_repo")) as portal:
        yield Portal(portal)


@contextmanager
def _left_by_its_process(manager: AbstractContextManager[T]) -> Iterator[T]:
    """Leave a manager only in the process that entered it: after a fork, the thread that would do so is missing."""
    process = os.getpid()
    with ExitStack() as stack:
        value = stack.enter_context(manager)
        try:
            yield value
        finally:
            if os.getpid() != process:
                _OF_THE_PARENT.append(stack.pop_all())


@contextmanager
def opened_client(
    open_client: Callable[[httpx.AsyncClient | None], AbstractAsyncContextManager[AsyncClient]],
    http_client: HttpClient | None,
) -> Iterator[Client]:
    """Open a client in a portal of its own or, if it shares an HTTP client, in that one's."""
    if http_client is not None and not isinstance(http_client, HttpClient):
        kind = type(http_client).__name__
        raise ConfigurationException(f"http_client: expected that of blocking.open_http_client(), got {kind}")
    with ExitStack() as stack:
        portal = stack.enter_context(opened()) if http_client is None else http_client.portal
        http = None if http_client is None else http_client.http
        yield Client(portal, stack.enter_context(portal.entered(open_client(http))))


@contextmanager
def opened_http_client(manager: AbstractAsyncContextManager[httpx.AsyncClient]) -> Iterator[HttpClient]:
    """Open an HTTP client in a portal of its own."""
    with opened() as portal, portal.entered(manager) as http:
        yield HttpClient(portal, http)


def checked(kind: type[T], value: object) -> T:
    """Return the blocking object, or refuse any other by name."""
    if isinstance(value, kind):
        return value
    expected = f"{kind.__name__} of scenario_repo.blocking"
    raise ConfigurationException(f"expected a {expected}, got {type(value).__module__}.{type(value).__qualname__}")


def taken(values: T) -> T:
    """Walk through what can be walked through only once, or lazily, in the caller's thread: it may block."""
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping | list | tuple | set | frozenset):
        taken_values: Any = list(values)
        return taken_values  # type: ignore[no-any-return]
    return values


def in_threads(send: Callable[P, None] | None) -> Callable[P, Awaitable[None]] | None:
    """Make a sender that is awaited of one that blocks: each send has a thread.

    A thread can't be cancelled. A cancelled send is waited for, as its result is worth more than its end; only the
    second cancellation, when the event loop ends, leaves it alone.

    Raises:
        InvalidDataException: the sender can't be called, or is a coroutine function.

    """
    if send is None:
        return None
    check(send)
    if inspect.iscoroutinefunction(send):
        raise InvalidDataException("send: expected a sender that blocks, got a coroutine function")
    threads: list[anyio.CapacityLimiter] = []  # made in the event loop

    def begin(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            answer: object = send(*args, **kwargs)
        except (KeyboardInterrupt, SystemExit) as error:
            raise SenderEnded(error) from None
        if inspect.iscoroutine(answer):
            answer.close()
            raise TypeError("a sender that blocks returned a coroutine: nothing was sent")

    @functools.wraps(send)
    async def send_in_thread(*args: P.args, **kwargs: P.kwargs) -> None:
        if not threads:
            threads.append(anyio.CapacityLimiter(math.inf))
        call = functools.partial(begin, *args, **kwargs)
        sending = asyncio.ensure_future(anyio.to_thread.run_sync(call, limiter=threads[0]))
        sending.add_done_callback(_known)
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.shield(sending)

    return send_in_thread


def _known(sending: asyncio.Future[None]) -> None:
    """Take the exception of a send that nobody waits for any more."""
    if not sending.cancelled():
        sending.exception()
