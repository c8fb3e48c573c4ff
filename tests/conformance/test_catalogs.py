"""Every catalog keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from riverlog.catalog.contract import Catalog
from riverlog.catalog.memory import MemoryCatalog
from riverlog.catalog.sqlite import SqliteCatalog
from riverlog.env.entropy import SeededEntropy
from riverlog.env.executor import ThreadExecutor
from riverlog.testing.conformance.catalog import CatalogSuite
from riverlog.testing.simulation.catalog import CatalogPlace


class TestMemoryCatalog(CatalogSuite):
    async def open(self) -> Catalog:
        return MemoryCatalog()

    async def reopen(self, catalog: Catalog) -> Catalog:
        assert isinstance(catalog, MemoryCatalog)
        return catalog.reopened()


class TestLateMemoryCatalog(TestMemoryCatalog):
    async def open(self) -> Catalog:
        return MemoryCatalog(late=3)


class TestSqliteCatalog(CatalogSuite):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> object:
        self.path = str(tmp_path / "catalog.db")
        self.executor = ThreadExecutor("catalog")
        yield
        self.executor.close()

    async def open(self) -> Catalog:
        return await SqliteCatalog.open(self.path, self.executor)

    async def reopen(self, catalog: Catalog) -> Catalog:
        return await SqliteCatalog.open(self.path, self.executor)


class TestSimulatedCatalog(CatalogSuite):
    @pytest.fixture(autouse=True)
    def place(self) -> None:
        self.lasting = CatalogPlace()

    async def open(self) -> Catalog:
        return self.lasting.open(SeededEntropy(1))

    async def reopen(self, catalog: Catalog) -> Catalog:
        return self.lasting.open(SeededEntropy(2))
