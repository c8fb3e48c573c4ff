"""Ids for producers, unique over the life of the catalog: any process takes blocks from one unowned row and hands out from
its block. A block that a crash leaves half used is not used again."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from riverlog.base.ids import ProducerId
from riverlog.catalog.contract import Catalog, Change, CommitId, Conflict, MaybeCommitted, Scope, Version
from riverlog.env.entropy import Entropy

SCOPE: Final = Scope("producer-ids", "")
KEY: Final = "next"
block_size: Final = 1000


class ProducerIds:
    def __init__(self, catalog: Catalog, entropy: Entropy) -> None:
        self.catalog = catalog
        self.entropy = entropy
        self._next = 0
        self._end = 0
        self._lock = asyncio.Lock()

    async def take(self) -> ProducerId:
        """A new id. Raises CatalogUnavailable."""
        async with self._lock:
            while self._next == self._end:
                await self._take_block()
            self._next += 1
            return ProducerId(self._next - 1)

    async def _take_block(self) -> None:
        rows = await self.catalog.load(SCOPE)
        row = rows.get(KEY)
        first = json.loads(row.value)["next"] if row is not None else 0
        value = json.dumps({"next": first + block_size}).encode()
        change = Change(SCOPE, KEY, value, row.version if row is not None else Version(0))
        commit_id = CommitId(self.entropy.token_bytes(16))
        while True:
            try:
                await self.catalog.commit(commit_id, None, [change])
            except MaybeCommitted:
                continue
            except Conflict:
                return  # another process took that block: look again
            self._next, self._end = first, first + block_size
            return
