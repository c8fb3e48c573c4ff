"""The parser of all commands: names, options and help. What they do is in the modules that they import when they run.

Not here: a plain `riverlog serve` line, which `cli/__init__.py` recognises before this parser is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from riverlog import __version__
from riverlog.cli.client import DEFAULT_BOOTSTRAP
from riverlog.cli.coordination import group_app, transaction_app
from riverlog.cli.errors import WRONG_USE, guarded, say
from riverlog.cli.options import Bootstrap, Json, option, some
from riverlog.cli.serve import ServeArguments
from riverlog.cli.serve import serve as run_server

app = App(
    name="riverlog",
    help="One append-only log that any Kafka client can use: one command, one process, one directory.",
    version=f"riverlog {__version__}",
    result_action="return_value",
)
topic_app = App(name="topic", help="Make, list, describe, alter and delete topics.")
app.command(topic_app)
app.command(group_app)
app.command(transaction_app)


def run_command(tokens: Sequence[str]) -> int:
    """The exit code of the command; a mistake on the line is one line on stderr and 2."""

    def parsed() -> int:
        try:
            status = app(list(tokens), exit_on_error=False, print_error=False)
        except CycloptsError as error:
            say(f"{error} ({' '.join(['riverlog', *_command_of(tokens)])} --help says more)")
            return WRONG_USE
        return status if isinstance(status, int) else 0

    return guarded(parsed)


def _command_of(tokens: Sequence[str]) -> list[str]:
    """The words at the beginning that name a command that there is."""
    words: list[str] = []
    known = app
    for token in tokens:
        if token not in known or token.startswith("-"):
            break
        known = known[token]
        words.append(token)
    return words


@app.command
def serve(
    *,
    data_dir: Annotated[
        str | None, option("--data-dir", help="Keep everything here [default: ./riverlog-data].")
    ] = None,
    kafka: Annotated[
        str | None,
        option("--kafka", help="Listen for Kafka clients at HOST:PORT [default: 127.0.0.1:9092]. Port 0: a free one."),
    ] = None,
    advertise: Annotated[
        str | None, option("--advertise", help="Tell clients HOST:PORT [default: the address that they came in by].")
    ] = None,
    http: Annotated[
        str | None, option("--http", help="Serve /metrics and /healthz at HOST:PORT [default: 127.0.0.1:9080].")
    ] = None,
    config: Annotated[str | None, option("--config", help="A file in the form of Kafka's server.properties.")] = None,
    set: Annotated[tuple[str, ...], option("--set", help="One setting: key=value, may be given again.")] = (),
    insecure: Annotated[
        bool, option("--insecure", help="Allow listening where other machines can connect, without TLS and passwords.")
    ] = False,
    json: Json = False,
) -> int:
    """Run the broker: one process over one directory. Ctrl-C stops it cleanly."""
    return run_server(
        ServeArguments(
            data_dir=data_dir,
            kafka=kafka,
            advertise=advertise,
            http=http,
            config=config,
            set=set,
            insecure=insecure,
            json=json,
        )
    )


@topic_app.command(name="create")
def topic_create(
    *names: Annotated[str, Parameter(name="NAME", help="The new topics.")],
    partitions: Annotated[
        int | None, option("--partitions", "-p", help="How many partitions [default: the broker's num.partitions].")
    ] = None,
    replicas: Annotated[
        int | None, option("--replicas", "-r", help="How many replicas [default: the broker's].")
    ] = None,
    config: Annotated[
        tuple[str, ...], option("--config", "-c", help="A configuration: key=value, may be given again.")
    ] = (),
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """Make topics."""
    from riverlog.cli import topics

    return topics.create(some(names, "topic"), partitions, replicas, config, bootstrap_server, json)


@topic_app.command(name="list")
def topic_list(
    *,
    internal: Annotated[bool, option("--internal", help="Also those whose names begin with two underscores.")] = False,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """What topics there are."""
    from riverlog.cli import topics

    return topics.show_all(internal, bootstrap_server, json)


@topic_app.command(name="describe")
def topic_describe(
    *names: Annotated[str, Parameter(name="NAME")],
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """Partitions with their first and end offsets, and the configurations that somebody has set."""
    from riverlog.cli import topics

    return topics.describe(some(names, "topic"), bootstrap_server, json)


@topic_app.command(name="alter")
def topic_alter(
    name: str,
    /,
    *,
    partitions: Annotated[int | None, option("--partitions", "-p", help="So many partitions; never fewer.")] = None,
    config: Annotated[
        tuple[str, ...], option("--config", "-c", help="Set a configuration: key=value, may be given again.")
    ] = (),
    unset: Annotated[tuple[str, ...], option("--unset", help="Back to the broker's default, may be given again.")] = (),
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """Add partitions, set and unset configurations of a topic."""
    from riverlog.cli import topics

    return topics.alter(name, partitions, config, unset, bootstrap_server, json)


@topic_app.command(name="delete")
def topic_delete(
    *names: Annotated[str, Parameter(name="NAME")],
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """Delete topics with all their records."""
    from riverlog.cli import topics

    return topics.delete(some(names, "topic"), bootstrap_server, json)


@app.command
def produce(
    topic: str,
    source: Annotated[str, Parameter(name="FILE", help="A file, or - for stdin.")] = "-",
    /,
    *,
    separator: Annotated[
        str | None,
        option("--key-separator", "-K", help="Split key and value at the first of these.", allow_leading_hyphen=True),
    ] = None,
    partition: Annotated[int | None, option("--partition", "-p", help="Into this partition [default: by key].")] = None,
    compression: Annotated[
        str, option("--compression", "-z", help="gzip, snappy, lz4, zstd, or none [default].")
    ] = "none",
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Annotated[bool, option("--json", help="Lines are records as `consume --json` prints them.")] = False,
) -> int:
    """Each line of a file becomes a record, acknowledged by the broker (acks=all, idempotent)."""
    from riverlog.cli.produce import produce as run

    return run(topic, source, separator, partition, compression, bootstrap_server, json)


@app.command
def consume(
    topic: str,
    /,
    *,
    start: Annotated[
        str | None,
        option(
            "--from",
            help="earliest, latest, an offset, -N (the last N of each partition), or a time: 2013-01-01T10:00:00Z, "
            "@MILLISECONDS, or an age (90s, 15m, 2h, 7d) [default: earliest, or where the group is].",
            allow_leading_hyphen=True,
        ),
    ] = None,
    group: Annotated[str | None, option("--group", "-g", help="Read as a member of this group, and commit.")] = None,
    count: Annotated[int | None, option("--count", "-n", help="End after so many records.")] = None,
    to_end: Annotated[bool, option("--exit", "-e", help="End at the end that is seen at the start.")] = False,
    separator: Annotated[
        str | None,
        option(
            "--key-separator", "-K", help="Print keys too, with this between key and value.", allow_leading_hyphen=True
        ),
    ] = None,
    bootstrap_server: Bootstrap = DEFAULT_BOOTSTRAP,
    json: Json = False,
) -> int:
    """Print the records of a topic, and follow it."""
    from riverlog.cli.consume import ConsumeArguments
    from riverlog.cli.consume import consume as run

    return run(
        ConsumeArguments(
            topic=topic, start=start, group=group, count=count, to_end=to_end, separator=separator,
            bootstrap=bootstrap_server, json=json,
        )
    )  # fmt: skip


@app.command
def dump(
    file: str,
    /,
    *,
    records: Annotated[bool, option("--records", help="Of a segment also every record.")] = False,
    json: Annotated[bool, option("--json", help="A line of JSON for each entry.")] = False,
) -> int:
    """Any file of a data directory as text: segments with their batches, indexes, snapshots, checkpoints."""
    from riverlog.cli import files

    return files.dump(file, records, json)


@app.command
def verify(directory: str, /, *, json: Json = False) -> int:
    """Check every CRC, every index and every offset of a data directory."""
    from riverlog.cli import files

    return files.verify(directory, json)


@app.command
def repair(
    directory: str,
    /,
    *,
    topic: Annotated[str | None, option("--topic", "-t", help="Only this topic.")] = None,
    partition: Annotated[int | None, option("--partition", "-p", help="Only this partition of it.")] = None,
    truncate: Annotated[bool, option("--truncate", help="Drop what is damaged and everything behind it.")] = False,
    skip: Annotated[bool, option("--skip", help="Drop what is damaged, keep what is behind it.")] = False,
    dry_run: Annotated[bool, option("--dry-run", help="Say what would be dropped; do nothing.")] = False,
    json: Json = False,
) -> int:
    """Repair damaged partitions of a stopped directory, when told how; what is dropped is saved beside."""
    from riverlog.cli import repair

    return repair.repair(directory, topic, partition, truncate, skip, dry_run, json)


@app.command
def simulate(
    *,
    seed: Annotated[int | None, option("--seed", help="One history.")] = None,
    seeds: Annotated[str | None, option("--seeds", help="Many: A..B, both of them.")] = None,
    steps: Annotated[int, option("--steps", help="How much is done in each [default: 60].")] = 60,
    transactions: Annotated[
        bool, option("--transactions", help="A whole broker, and clients in transactions.")
    ] = False,
    verbose: Annotated[bool, option("--verbose", help="Print every event.")] = False,
) -> int:
    """Run the log engine on a simulated machine that crashes, and check every promise. For those who change it."""
    from riverlog.cli import simulate

    return simulate.simulate(seed, seeds, steps, verbose, transactions)


if __name__ == "__main__":
    sys.exit(run_command(sys.argv[1:]))
