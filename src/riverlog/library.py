"""riverlog inside a Python program: `with riverlog.Broker() as broker` is a Kafka port in this process.

The broker runs on a loop of its own in one thread, so it serves clients of any kind, blocking ones too. In memory unless it is
given a directory. Not here: reading and writing without a socket (`riverlog.open`), which comes with SQL.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from riverlog.server.compose import Server

T = TypeVar("T")
LOOPBACK: Final = "127.0.0.1:0"


class Broker:
    """A broker in this process. `directory` None keeps everything in memory; `settings` have Kafka's names, as for `serve`.

    `start` and `stop` may be used instead of `with`; a stopped broker may be started again (one in memory is empty then).
    """

    def __init__(
        self,
        directory: str | PathLike[str] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        kafka: str = LOOPBACK,
        http: str | None = None,
    ) -> None:
        self._directory = None if directory is None else fspath(directory)
        self._settings = {name: _text(value) for name, value in (settings or {}).items()}
        self._kafka = kafka
        self._http = http
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Server | None = None
        self._failure: BaseException | None = None  # of the last stop

    def start(self) -> Broker:
        """Returns when it serves. Raises what a server's start raises."""
        if self._thread is not None:
            raise RuntimeError("this broker runs already")
        ready = threading.Event()
        failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(ready, failures), name="riverlog-broker", daemon=True)
        self._thread.start()
        ready.wait()
        if failures:
            self._thread.join()
            self._thread = None
            raise failures[0]
        return self

    def stop(self) -> None:
        """Syncs what is kept and marks a clean stop. Stopping twice is nothing. Raises what went wrong on the way."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = self._loop = self._server = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self, ready: threading.Event, failures: list[BaseException]) -> None:
        loop = asyncio.new_event_loop()
        try:
            self._server = loop.run_until_complete(self._open())
            self._loop = loop
            ready.set()
            loop.run_forever()
            loop.run_until_complete(self._server.stop())
        except BaseException as error:
            if ready.is_set():
                self._failure = error
            else:
                failures.append(error)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            ready.set()

    async def _open(self) -> Server:
        from riverlog.server.compose import Server
        from riverlog.server.settings import load

        overrides = {"listeners": f"PLAINTEXT://{self._kafka}", **self._settings}
        if self._directory is not None:
            overrides["log.dirs"] = self._directory
        if self._http is not None:
            overrides["riverlog.http.listener"] = self._http
        return await Server.start(load(None, overrides), in_memory=self._directory is None, http=self._http is not None)

    @property
    def bootstrap_servers(self) -> str:
        """`HOST:PORT` of the Kafka port."""
        return self._running().kafka.text

    @property
    def http_address(self) -> str | None:
        """`HOST:PORT` of the HTTP port, where one was asked for."""
        http = self._running().http
        return None if http is None else http.text

    def create_topic(self, name: str, partitions: int = 1, configs: Mapping[str, object] | None = None) -> None:
        """Makes a topic. Raises RiverlogError where it exists already or the request is not valid."""
        from riverlog.state.access import LIBRARY_CALLER

        server = self._running()
        texts = {key: _text(value) for key, value in (configs or {}).items()}
        self._call(lambda: server.create_topic(LIBRARY_CALLER, name, partitions, texts))

    def _running(self) -> Server:
        if self._server is None:
            raise RuntimeError("this broker does not run: use `with Broker() as broker`, or start()")
        return self._server

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _text(value: object) -> str:
    """A setting as its file would say it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
