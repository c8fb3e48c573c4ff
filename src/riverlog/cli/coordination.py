"""The commands `riverlog group …` and `riverlog transaction …`: names, options, help. The modules they import do the rest."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from riverlog.cli.client import DEFAULT_BOOTSTRAP
from riverlog.cli.options import Bootstrap, Json, option, some

group_app = App(name="group", help="List, describe, delete and reset consumer groups.")
transaction_app = App(name="transaction", help="List and describe transactions; find and abort hanging ones.")


@group_app.command(name="list")
def group_list(*, bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP, json: Json = False) -> int:
    """What groups there are, and how far behind they are."""
    from riverlog.cli import groups

    return groups.show_all(bootstrap_server, json)


@group_app.command(name="describe")
def group_describe(
    *names: Annotated[str, Parameter(name="GROUP")],
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """Where groups are, how far behind, and who reads what."""
    from riverlog.cli import groups

    return groups.describe(some(names, "group"), bootstrap_server, json)


@group_app.command(name="delete")
def group_delete(
    *names: Annotated[str, Parameter(name="GROUP")],
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """Delete groups without members, and their offsets."""
    from riverlog.cli import groups

    return groups.delete(some(names, "group"), bootstrap_server, json)


@group_app.command(name="delete-offsets")
def group_delete_offsets(
    group: str,
    /,
    *,
    topic: Annotated[tuple[str, ...], option("--topic", "-t", help="Of this topic, may be given again.")],
    partition: Annotated[
        tuple[int, ...], option("--partition", "-p", help="Only of this partition, may be given again.")
    ] = (),
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """Delete what a group has committed in topics that none of its members reads."""
    from riverlog.cli import groups

    return groups.delete_offsets(group, topic, partition, bootstrap_server, json)


@group_app.command(name="reset")
def group_reset(
    group: str,
    /,
    *,
    to: Annotated[
        str | None,
        option(
            "--to", help="As consume's --from: earliest, latest, an offset, -N or a time.", allow_leading_hyphen=True
        ),
    ] = None,
    by: Annotated[
        str | None,
        option("--by", help="So many records on from where the group is; -N: back.", allow_leading_hyphen=True),
    ] = None,
    topic: Annotated[
        tuple[str, ...],
        option("--topic", "-t", help="Only these topics [default: all that the group has offsets in]."),
    ] = (),
    partition: Annotated[
        tuple[int, ...], option("--partition", "-p", help="Only these partitions of the one topic.")
    ] = (),
    clamp: Annotated[
        bool, option("--clamp", help="Take the nearest offset that there is, where one is out of range.")
    ] = False,
    execute: Annotated[bool, option("--execute", help="Do it; without this the plan is printed.")] = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """Set a group without members elsewhere."""
    from riverlog.cli import resets

    wanted = resets.Wanted(group, to, by, topic, partition, clamp, execute)
    return resets.reset(wanted, bootstrap_server, json)


@transaction_app.command(name="list")
def transaction_list(
    *,
    state: Annotated[tuple[str, ...], option("--state", "-s", help="Only in this state, may be given again.")] = (),
    older_than: Annotated[
        str | None, option("--older-than", help="Only those that have been open for longer: 90s, 15m, 2h, 7d.")
    ] = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """What transactional ids there are, and the state of each."""
    from riverlog.cli import transactions

    return transactions.show_all(state, older_than, bootstrap_server, json)


@transaction_app.command(name="describe")
def transaction_describe(
    *names: Annotated[str, Parameter(name="ID")],
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """The state, producer, time-out and partitions of transactional ids."""
    from riverlog.cli import transactions

    return transactions.describe(some(names, "transactional id"), bootstrap_server, json)


@transaction_app.command(name="open")
def transaction_open(
    *,
    topic: Annotated[tuple[str, ...], option("--topic", "-t", help="Only in these topics [default: all].")] = (),
    hanging: Annotated[bool, option("--hanging", help="Only those that nobody will end.")] = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """What partitions have open: readers of committed records wait behind it."""
    from riverlog.cli import transactions

    return transactions.show_open(topic, hanging, bootstrap_server, json)


@transaction_app.command(name="abort")
def transaction_abort(
    topic: str,
    /,
    *,
    partition: Annotated[int, option("--partition", "-p", help="The partition.")],
    start: Annotated[int, option("--start", help="The offset at which it begins, as `transaction open` shows it.")],
    execute: Annotated[bool, option("--execute", help="Do it; without this it is only said.")] = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """Abort a hanging transaction in one partition."""
    from riverlog.cli import transactions

    return transactions.abort(topic, partition, start, execute, bootstrap_server, json)
