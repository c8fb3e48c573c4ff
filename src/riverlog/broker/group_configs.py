"""The configurations of groups (`consumer.session.timeout.ms` …): kept in the catalog, told to the live group at once.

One row a group in the unowned scope `group-configs` (docs/formats/catalog.md). Invariant: the catalog is the truth; a
change is decided on the version of its row, committed, and comes back through the feed, which alone changes what this
process believes; whoever asked is answered after that. Not here: which configurations there are (`state/group_configs.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.limits import kept_text_length_max
from riverlog.broker.configs import ConfigEntry, ConfigSource, Synonym
from riverlog.broker.settings import BrokerSettings
from riverlog.catalog.contract import (
    Catalog,
    CatalogUnavailable,
    Change,
    CommitId,
    Conflict,
    MaybeCommitted,
    Scope,
    Version,
)
from riverlog.env.entropy import Entropy
from riverlog.state.access import Access, Caller, Operation, Resource, ResourceKind
from riverlog.state.group_configs import (
    ASSIGNMENT_INTERVAL,
    GROUP_PREFIX,
    HEARTBEAT_INTERVAL,
    OBEYED,
    SESSION_TIMEOUT,
    Bounds,
    bounds_of,
    changed_group_configs,
    decode_group_configs,
    encode_group_configs,
    group_config_key,
    replaced_group_configs,
    value_of,
)
from riverlog.state.groups.commands import GroupSettings
from riverlog.state.topics import ConfigChange

log = logging.getLogger(__name__)

SCOPE: Final = Scope("group-configs", "")
configured_groups_max: Final = 100_000
resends_max: Final = 5
conflicts_max: Final = 20

Configs = Mapping[str, str]
Decide = Callable[[Configs], Configs]


class GroupConfigs:
    """`watchers` are called on the loop with the id of a group whose configurations changed."""

    def __init__(self, settings: BrokerSettings, catalog: Catalog, entropy: Entropy, access: Access) -> None:
        self.bounds = bounds_of_broker(settings)
        self.watchers: list[Callable[[str], None]] = []
        self._catalog = catalog
        self._entropy = entropy
        self._access = access
        self._known: dict[str, tuple[Configs, Version]] = {}  # by group id
        self._passed = Version(0)
        self._waiting: list[tuple[Version, asyncio.Future[None]]] = []
        self._failure: str | None = None

    # ------------------------------------------------------------------ what is believed

    async def load(self) -> None:
        """Before groups are loaded. Raises STORAGE."""
        self._known, self._passed = await self._read()

    async def follow(self) -> None:
        """Until the catalog is closed or fails; then nobody waits any more."""
        try:
            async for changes in self._catalog.feed(self._passed):
                for change in changes:
                    if change.scope == SCOPE and change.key.startswith(GROUP_PREFIX):
                        self._apply(change.key, change.value, change.version)
                self._passed = changes[-1].version
                due = [waiter for version, waiter in self._waiting if version <= self._passed]
                self._waiting = [waiting for waiting in self._waiting if waiting[0] > self._passed]
                for waiter in due:
                    if not waiter.done():
                        waiter.set_result(None)
        except CatalogUnavailable as error:
            self._fail(str(error))
        finally:
            self._fail("the catalog is closed")

    def _apply(self, key: str, value: bytes | None, version: Version) -> None:
        group_id = key.removeprefix(GROUP_PREFIX)
        if value is None:
            self._known.pop(group_id, None)
        else:
            try:
                self._known[group_id] = (decode_group_configs(key, value), version)
            except RiverlogError as error:
                log.error("the configs of group %r cannot be read: %s", group_id, error.message)
                return
        for watcher in self.watchers:
            watcher(group_id)

    def _fail(self, message: str) -> None:
        self._failure = self._failure or message
        waiting, self._waiting = self._waiting, []
        for _, waiter in waiting:
            if not waiter.done():
                waiter.set_exception(RiverlogError(ErrorKind.STORAGE, self._failure))

    def applied(self, group_id: str, settings: GroupSettings) -> GroupSettings:
        """`settings` with what the group has of its own."""
        if (known := self._known.get(group_id)) is None:
            return settings
        return replace(
            settings,
            consumer_session_timeout_ms=value_of(known[0], SESSION_TIMEOUT, self.bounds),
            consumer_heartbeat_interval_ms=value_of(known[0], HEARTBEAT_INTERVAL, self.bounds),
            consumer_assignment_interval_ms=value_of(known[0], ASSIGNMENT_INTERVAL, self.bounds),
        )

    # ------------------------------------------------------------------ asking

    def visible(self, caller: Caller) -> Sequence[str]:
        """The groups that have configurations of their own, of those that the caller may see."""
        allows = self._access.allows
        return sorted(
            group_id
            for group_id in self._known
            if allows(caller, Operation.DESCRIBE_CONFIGS, Resource(ResourceKind.GROUP, group_id))
        )

    def describe(self, caller: Caller, group_id: str, keys: Collection[str] | None) -> Sequence[ConfigEntry]:
        """All or those named; unknown names are left out. Of any group: one that is not there has the defaults."""
        self._check(caller, Operation.DESCRIBE_CONFIGS, group_id)
        own = self._known[group_id][0] if group_id in self._known else {}
        entries = []
        for spec in OBEYED:
            if keys is not None and spec.name not in keys:
                continue
            default, _, _ = bounds_of(spec.name, self.bounds)
            synonyms = [Synonym(f"group.{spec.name}", str(default), ConfigSource.DEFAULT)]
            if default != bounds_of(spec.name, Bounds())[0]:
                synonyms[0] = synonyms[0]._replace(source=ConfigSource.STATIC_BROKER)
                kafkas = str(bounds_of(spec.name, Bounds())[0])
                synonyms.append(Synonym(f"group.{spec.name}", kafkas, ConfigSource.DEFAULT))
            if spec.name in own:
                value = str(value_of(own, spec.name, self.bounds))
                synonyms.insert(0, Synonym(spec.name, value, ConfigSource.GROUP))
            _, value, source = synonyms[0]
            entries.append(ConfigEntry(spec.name, value, source, spec.type, False, synonyms, spec.documentation))
        return entries

    # ------------------------------------------------------------------ changing

    async def incremental_alter(
        self, caller: Caller, group_id: str, changes: Sequence[ConfigChange], *, validate_only: bool = False
    ) -> None:
        """What is not named stays."""
        self._check(caller, Operation.ALTER_CONFIGS, group_id)
        await self._change(group_id, lambda own: changed_group_configs(own, changes, self.bounds), validate_only)

    async def alter(
        self, caller: Caller, group_id: str, configs: Mapping[str, str | None], *, validate_only: bool = False
    ) -> None:
        """These and no others."""
        self._check(caller, Operation.ALTER_CONFIGS, group_id)
        await self._change(group_id, lambda _: replaced_group_configs(configs, self.bounds), validate_only)

    async def _change(self, group_id: str, decide: Decide, validate_only: bool) -> None:
        """Decides and commits, again where somebody else was faster, and waits until the feed has brought it."""
        known = self._known
        for _ in range(conflicts_max):
            own, version = known.get(group_id, ({}, Version(0)))
            configs = decide(own)
            if not version and configs and len(known) >= configured_groups_max:
                message = f"{len(known)} groups have configs already: delete those of groups that are gone"
                raise RiverlogError(ErrorKind.POLICY_VIOLATION, message)
            if validate_only or configs == own:
                return
            try:
                await self._passing(await self._commit(group_id, configs, version))
                return
            except Conflict:
                known, _ = await self._read()
        raise RiverlogError(ErrorKind.REQUEST_TIMED_OUT, f"others keep changing group {group_id!r}: try again")

    async def _commit(self, group_id: str, configs: Configs, expected: Version) -> Version:
        """Raises Conflict; STORAGE where the catalog does not answer."""
        id = CommitId(self._entropy.token_bytes(16))
        value = encode_group_configs(configs) if configs else None
        change = Change(SCOPE, group_config_key(group_id), value, expected)
        for _ in range(resends_max):
            try:
                return await self._catalog.commit(id, None, [change])
            except MaybeCommitted as error:
                log.info("committing the configs of group %r again: %s", group_id, error)
            except CatalogUnavailable as error:
                raise RiverlogError(ErrorKind.STORAGE, f"the catalog is not available: {error}") from error
        raise RiverlogError(ErrorKind.STORAGE, f"the catalog did not say whether group {group_id!r} was changed")

    async def _passing(self, version: Version) -> None:
        """Done when the feed has brought everything up to `version`."""
        if version <= self._passed:
            return
        if self._failure is not None:
            raise RiverlogError(ErrorKind.STORAGE, self._failure)
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((version, passed))
        await passed

    async def _read(self) -> tuple[dict[str, tuple[Configs, Version]], Version]:
        try:
            rows = await self._catalog.load(SCOPE)
        except CatalogUnavailable as error:
            raise RiverlogError(ErrorKind.STORAGE, f"the catalog is not available: {error}") from error
        known: dict[str, tuple[Configs, Version]] = {}
        passed = Version(0)
        for key, row in rows.items():
            passed = max(passed, row.version)
            if not key.startswith(GROUP_PREFIX):
                continue
            try:
                known[key.removeprefix(GROUP_PREFIX)] = (decode_group_configs(key, row.value), row.version)
            except RiverlogError as error:
                log.error("%s; that group has the defaults", error.message)
        return known, passed

    def _check(self, caller: Caller, operation: Operation, group_id: str) -> None:
        if not self._access.allows(caller, operation, Resource(ResourceKind.GROUP, group_id)):
            what = operation.name.lower().replace("_", " ")
            raise RiverlogError(ErrorKind.UNAUTHORIZED, f"not allowed to {what} of group {group_id!r}")
        if not group_id:
            raise RiverlogError(ErrorKind.INVALID_REQUEST, "the configs of a group need its name")
        if len(group_id) > kept_text_length_max:
            raise RiverlogError(ErrorKind.INVALID_GROUP_ID, f"a group id has at most {kept_text_length_max} characters")


def bounds_of_broker(settings: BrokerSettings) -> Bounds:
    return Bounds(
        session_timeout_ms=settings.group_consumer_session_timeout_ms,
        session_timeout_ms_min=settings.group_consumer_session_timeout_ms_min,
        session_timeout_ms_max=settings.group_consumer_session_timeout_ms_max,
        heartbeat_interval_ms=settings.group_consumer_heartbeat_interval_ms,
        heartbeat_interval_ms_min=settings.group_consumer_heartbeat_interval_ms_min,
        heartbeat_interval_ms_max=settings.group_consumer_heartbeat_interval_ms_max,
        assignment_interval_ms=settings.group_consumer_assignment_interval_ms,
        assignment_interval_ms_min=settings.group_consumer_assignment_interval_ms_min,
        assignment_interval_ms_max=settings.group_consumer_assignment_interval_ms_max,
    )
