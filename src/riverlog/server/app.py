"""`riverlog serve`: one process until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from json import dumps
from typing import Final

import riverlog
from riverlog.base.errors import RiverlogError
from riverlog.catalog.contract import CatalogUnavailable
from riverlog.env.clock import SystemClock
from riverlog.kernels import IMPLEMENTATION
from riverlog.server.compose import Server
from riverlog.server.settings import ServerSettings

log = logging.getLogger(__name__)

young_objects_max: Final = 20_000  # before the collector looks: requests make many objects and no cycles


def run(settings: ServerSettings, *, json: bool = False) -> int:
    """Serves until SIGTERM or SIGINT; gives the exit code. One line on stdout when it is ready, with `json` an object."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for warning in settings.warnings:
        log.warning("%s", warning)
    _raise_open_files()
    try:
        return asyncio.run(_serve(settings, json))
    except (RiverlogError, CatalogUnavailable) as error:
        sys.stderr.write(f"riverlog: {error}\n")
    except OSError as error:
        sys.stderr.write(f"riverlog: {error.strerror or error}" + (f": {error.filename}\n" if error.filename else "\n"))
    return 1


async def _serve(settings: ServerSettings, json: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await Server.start(settings)
    gc.collect()
    gc.freeze()
    gc.set_threshold(young_objects_max, 20, 50)
    if json:
        _say_ready_as_json(server)
    else:
        _say_ready(server)
    waits = [loop.create_task(stop.wait()), loop.create_task(server.failures.happened.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await server.stop()
    if server.failures.happened.is_set():
        log.error("stopped: %s", server.failures.message)
        return 1
    return 0


def _say_ready(server: Server) -> None:
    http = f", http {server.http.text}" if server.http is not None else ""
    kernels = (
        "" if IMPLEMENTATION == "compiled" else " (pure Python kernels: no C compiler was there at the installation)"
    )
    sys.stdout.write(
        f"riverlog {riverlog.__version__} ready: kafka {server.kafka.text}{http}, "
        f"data {server.settings.data_dir}, started in {_seconds_since_process_start():.2f} s{kernels}\n"
    )
    sys.stdout.flush()


def _say_ready_as_json(server: Server) -> None:
    """Keys are added, never renamed."""
    line = {
        "event": "ready",
        "version": riverlog.__version__,
        "pid": os.getpid(),
        "kafka": server.kafka.text,
        "http": server.http.text if server.http is not None else None,
        "data_dir": str(server.settings.data_dir),
        "cluster_id": server.broker.cluster_id,
        "started_in_s": round(_seconds_since_process_start(), 3),
        "kernels": IMPLEMENTATION,
    }
    sys.stdout.write(dumps(line) + "\n")
    sys.stdout.flush()


def _seconds_since_process_start() -> float:
    """Counted from the process's birth where the system tells it, so that imports are in it."""
    try:
        with open("/proc/self/stat", encoding="ascii") as stat:
            ticks = int(stat.read().rpartition(")")[2].split()[19])
        with open("/proc/uptime", encoding="ascii") as uptime:
            return float(uptime.read().split()[0]) - ticks / 100
    except (OSError, ValueError, IndexError):
        return SystemClock().monotonic_ms() / 1000 - _loaded_ms / 1000


_loaded_ms = SystemClock().monotonic_ms()


def _raise_open_files() -> None:
    """As many open files as the system lets us have without asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
