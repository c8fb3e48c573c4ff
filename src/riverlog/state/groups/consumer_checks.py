"""What a ConsumerGroupHeartbeat must be like, whoever sends it."""

from __future__ import annotations

from riverlog.base.errors import ErrorKind
from riverlog.state.groups.commands import ConsumerHeartbeat, ConsumerHeartbeatResult, GroupSettings
from riverlog.state.groups.consumer_members import LEFT_FOR_A_WHILE
from riverlog.state.groups.regex import compiled

JOINING = 0
LEAVING = -1


def refused(error: ErrorKind, message: str, member_id: str = "") -> ConsumerHeartbeatResult:
    return ConsumerHeartbeatResult(error, message, member_id)


def check_heartbeat(beat: ConsumerHeartbeat, settings: GroupSettings) -> ConsumerHeartbeatResult | None:
    """None: it may be looked at."""
    invalid = _invalid(beat)
    if invalid is not None:
        return refused(ErrorKind.INVALID_REQUEST, invalid)
    if beat.assignor is not None and beat.assignor not in settings.consumer_assignors:
        known = ", ".join(settings.consumer_assignors)
        message = f"group.remote.assignor {beat.assignor!r} is not known here; there are {known}"
        return refused(ErrorKind.UNSUPPORTED_ASSIGNOR, message)
    if beat.subscribed_regex:
        try:
            compiled(beat.subscribed_regex)
        except ValueError as cause:
            message = f"{beat.subscribed_regex!r} is not an expression of RE2: {cause}"
            return refused(ErrorKind.INVALID_REGULAR_EXPRESSION, message)
    return None


def _invalid(beat: ConsumerHeartbeat) -> str | None:
    if beat.instance_id == "":
        return "group.instance.id is empty: leave it out, or give a name"
    if beat.rack_id == "":
        return "client.rack is empty: leave it out, or give a name"
    if not beat.member_id and not (beat.fresh_id and beat.member_epoch == JOINING):
        return "a member names itself with an id of its own: send a member id"
    if beat.member_epoch == JOINING:
        if beat.rebalance_timeout_ms == -1:
            return "who joins says its rebalance time-out"
        if beat.owned is None or beat.owned:
            return "who joins owns no partitions: send an empty list"
        if beat.subscribed_names is None and beat.subscribed_regex is None:
            return "who joins subscribes to topics, by name or by expression"
    elif beat.member_epoch == LEFT_FOR_A_WHILE and beat.instance_id is None:
        return "only a static member leaves to come back: send its group.instance.id"
    elif beat.member_epoch < LEFT_FOR_A_WHILE:
        return f"member epoch {beat.member_epoch} means nothing"
    return None
