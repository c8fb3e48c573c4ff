"""The local engine passes the suite of all log engines: on real files, on crashable ones, and where nothing is in the
page cache; with large segments and with ones so small that each holds a batch or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from riverlog.env.clock import Clock
from riverlog.env.entropy import SeededEntropy
from riverlog.env.files import Files, RealFiles
from riverlog.storage.contract import Durability, LogConfig, LogEngine, TopicLog
from riverlog.storage.local.engine import LocalEngine
from riverlog.storage.local.settings import LocalSettings
from riverlog.testing.conformance.log_engine import LogEngineSuite
from riverlog.testing.conformance.log_times import LogTimesSuite
from riverlog.testing.conformance.log_transactions import LogTransactionsSuite
from riverlog.testing.fakes import CrashableFiles

SMALL = LogConfig(segment_bytes=300, index_interval_bytes=100)


async def opened(
    files: Files, directory: str, clock: Clock, topics: Sequence[TopicLog], config: LogConfig | None = None
) -> LocalEngine:
    if config is not None:
        topics = [replace(topic, config=config) for topic in topics]
    settings = LocalSettings(open_files_max=4)
    entropy = SeededEntropy(1)
    return await LocalEngine.open(directory, settings, files=files, clock=clock, entropy=entropy, topics=topics)


class TestRealFiles(LogEngineSuite, LogTimesSuite, LogTransactionsSuite):
    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> None:
        self.path = str(tmp_path / "data")

    async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
        return await opened(RealFiles(), self.path, clock, topics)


class TestSmallSegments(TestRealFiles):
    async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
        return await opened(RealFiles(), self.path, clock, topics, SMALL)


class TestPageCache(TestRealFiles):
    async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
        return await opened(RealFiles(), self.path, clock, topics, replace(SMALL, durability=Durability.PAGE_CACHE))


class TestCrashableFiles(LogEngineSuite, LogTimesSuite, LogTransactionsSuite):
    async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
        return await opened(CrashableFiles(), "/data", clock, topics)


class TestColdFiles(LogEngineSuite, LogTimesSuite, LogTransactionsSuite):
    """Every read goes by a thread."""

    async def open(self, clock: Clock, topics: Sequence[TopicLog]) -> LogEngine:
        files = CrashableFiles()
        files.resident = False
        return await opened(files, "/data", clock, topics, SMALL)
