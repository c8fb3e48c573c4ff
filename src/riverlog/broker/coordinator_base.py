"""What every question to the coordinator of groups needs: who may ask, which topic is meant, and the groups' machines.

Not here: any question (`coordinator.py`, `coordinator_offsets.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from riverlog.base.errors import ErrorKind, RiverlogError
from riverlog.base.ids import TopicId, TopicName
from riverlog.base.limits import kept_text_length_max
from riverlog.broker.group_configs import GroupConfigs
from riverlog.broker.group_machines import GroupMachines
from riverlog.broker.group_requests import KnownTopics
from riverlog.broker.settings import BrokerSettings
from riverlog.catalog.contract import Catalog
from riverlog.env.clock import Clock
from riverlog.env.entropy import Entropy
from riverlog.state.access import Access, Caller, Operation, Resource, ResourceKind
from riverlog.state.groups.commands import GroupSettings
from riverlog.state.groups.topics import GroupTopic
from riverlog.state.transactions.commands import Number, Outcome


async def _nobody_knows(transactional_id: str, number: int) -> Outcome:
    """Without transactions there is none that could be open: one that nobody knows was aborted."""
    return Outcome.ABORTED


class CoordinatorBase:
    def __init__(
        self,
        *,
        settings: BrokerSettings,
        catalog: Catalog,
        topics: KnownTopics,
        clock: Clock,
        entropy: Entropy,
        access: Access,
    ) -> None:
        self.settings = settings
        self.group_settings = group_settings_of(settings)
        self.outcomes: Callable[[str, Number], Awaitable[Outcome]] = _nobody_knows
        self.configs = GroupConfigs(settings, catalog, entropy, access)
        self._topics = topics
        self._clock = clock
        self._entropy = entropy
        self._access = access
        self._machines = GroupMachines(
            self._settings_of, topics, catalog, clock, entropy, lambda *name: self.outcomes(*name)
        )

    def _settings_of(self, group_id: str) -> GroupSettings:
        return self.configs.applied(group_id, self.group_settings)

    def _allows(self, caller: Caller, operation: Operation, kind: ResourceKind, name: str) -> bool:
        return self._access.allows(caller, operation, Resource(kind, name))

    def _check_group(self, caller: Caller, operation: Operation, group_id: str) -> None:
        if not self._access.allows(caller, operation, Resource(ResourceKind.GROUP, group_id)):
            message = f"{caller.principal} may not {operation.name} group {group_id!r}"
            raise RiverlogError(ErrorKind.UNAUTHORIZED, message)
        if len(group_id) > kept_text_length_max:
            raise RiverlogError(
                ErrorKind.INVALID_GROUP_ID, f"a group id has at most {kept_text_length_max} characters, not {len(group_id)}"
            )

    def _check_member_call(self, caller: Caller, group_id: str) -> None:
        self._check_group(caller, Operation.READ, group_id)
        if not group_id:
            raise RiverlogError(ErrorKind.INVALID_GROUP_ID, "a group with members needs a name: set group.id")

    def _topic(
        self, caller: Caller, operation: Operation, name: str, topic_id: TopicId | None
    ) -> GroupTopic | ErrorKind:
        if topic_id is not None:
            topic = self._topics.by_id.get(topic_id)
            if topic is None:
                return ErrorKind.UNKNOWN_TOPIC_ID
            name = topic.name
        else:
            topic = self._topics.by_name.get(TopicName(name))
        if not self._access.allows(caller, operation, Resource(ResourceKind.TOPIC, name)):
            return ErrorKind.UNAUTHORIZED
        return ErrorKind.UNKNOWN_TOPIC if topic is None else topic

    def _uuid(self) -> str:
        """Random, in the form of a UUID of version 4, as Kafka's member ids end."""
        raw = bytearray(self._entropy.token_bytes(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        text = raw.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def group_settings_of(settings: BrokerSettings) -> GroupSettings:
    return GroupSettings(
        session_timeout_ms_min=settings.group_session_timeout_ms_min,
        session_timeout_ms_max=settings.group_session_timeout_ms_max,
        members_max=settings.group_members_max,
        initial_rebalance_delay_ms=settings.group_initial_rebalance_delay_ms,
        offsets_retention_ms=settings.offsets_retention_ms,
        consumer_session_timeout_ms=settings.group_consumer_session_timeout_ms,
        consumer_heartbeat_interval_ms=settings.group_consumer_heartbeat_interval_ms,
        consumer_assignment_interval_ms=settings.group_consumer_assignment_interval_ms,
        consumer_members_max=settings.group_consumer_members_max,
        consumer_assignors=settings.group_consumer_assignors,
        migration_policy=settings.group_consumer_migration_policy,
    )
