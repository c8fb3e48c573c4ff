"""`python -m benchmarks.macro`: run the chosen sections, print the tables, write them to `benchmarks/results/`."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.macro import cleaning, cold, coordination, footprint, growth, journal, loads, machine, plan, starts
from benchmarks.macro.bench import Bench
from benchmarks.macro.table import OURS, THEIRS, Report, comparison, markdown
from benchmarks.peers import kafka, load, riverlog
from benchmarks.peers.cache import REPOSITORY, cache_directory


def parser() -> argparse.ArgumentParser:
    """The command line."""
    sections = "\n".join(f"  {name:<11} {what}" for name, what in plan.SECTIONS.items())
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.macro",
        description="riverlog and Apache Kafka under the same loads.",
        epilog=f"sections:\n{sections}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="little of everything: a look, not for the record")
    made.add_argument("--only", metavar="SECTIONS", help="these sections, comma-separated")
    made.add_argument("--without", metavar="SECTIONS", help="not these sections")
    made.add_argument(
        "--sizes", metavar="BYTES", default="", help="message sizes, comma-separated (128,512,1024,10240)"
    )
    made.add_argument("--rounds", type=int, help="alternating runs of each broker (5; 2 with --quick)")
    made.add_argument("--cold", action="store_true", help="loads: a new process for each run, and no warm-up")
    made.add_argument("--cold-gb", type=float, help="cold: how much is read (20; 1 with --quick)")
    made.add_argument("--brokers", default=f"{OURS},{THEIRS}", help="which brokers to measure")
    made.add_argument("--directory", type=Path, help="where the brokers write (default: the cache of the benchmarks)")
    made.add_argument("--results", type=Path, default=REPOSITORY / "benchmarks" / "results", help="where tables go")
    made.add_argument("--no-write", action="store_true", help="print only")
    return made


def make_plan(options: argparse.Namespace) -> plan.Plan:
    """The plan that the options ask for; ValueError where they make no sense."""
    sections = plan.chosen_sections(options.only, options.without)
    sizes = [int(size) for size in options.sizes.split(",") if size.strip()]
    if any(size < 1 for size in sizes) or (options.rounds is not None and options.rounds < 1):
        raise ValueError("sizes and rounds are at least 1")
    made = (plan.quick if options.quick else plan.full)(sections, sizes, options.rounds)
    if options.cold_gb is not None:
        if options.cold_gb <= 0:
            raise ValueError("--cold-gb is more than 0")
        made = dataclasses.replace(made, cold_bytes=int(options.cold_gb * 1e9))
    return dataclasses.replace(made, cold=options.cold)


def measurable(names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Which of the named brokers can run here, and a remark on each that cannot."""
    checks = {OURS: riverlog.missing, THEIRS: kafka.missing}
    if unknown := set(names) - checks.keys():
        raise ValueError(f"no broker is called {', '.join(sorted(unknown))}; there are {OURS} and {THEIRS}")
    reasons = {name: checks[name]() for name in names}
    remarks = [f"{name} was not measured: {reason}." for name, reason in reasons.items() if reason is not None]
    return tuple(name for name in names if reasons[name] is None), remarks


def run(bench: Bench) -> None:
    """Every chosen section."""
    loads.run(bench)
    for name, section in (
        ("memory", footprint.memory),
        ("start", footprint.start),
        ("growth", growth.run),
        ("partitions", footprint.partitions),
        ("journal", journal.run),
        ("wide", journal.beside_kafka),
        ("starts", starts.run),
        ("compaction", cleaning.run),
        ("cold", cold.run),
        ("groups", coordination.groups),
        ("transactions", coordination.transactional),
        ("offsets", coordination.committed),
    ):
        if name in bench.plan.sections:
            section(bench)


def page(report: Report, facts: dict[str, str], *, title: str) -> str:
    """Everything that was found, as Markdown."""
    parts = [f"# {title}\n", "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n"]
    parts += [f"{remark}\n" for remark in report.remarks]
    if rows := report.rows():
        parts.append("Medians, in parentheses the lowest and the highest run. Ratio: riverlog to Kafka.\n")
        parts.append(comparison(rows, theirs_name=f"Kafka {kafka.version_default}"))
    parts += [markdown(table) for table in report.tables]
    return "\n".join(parts)


def as_json(report: Report, facts: dict[str, str]) -> str:
    """The same with every sample, for programs."""
    rows = [
        {
            "section": row.metric.section, "label": row.metric.label, "unit": row.metric.unit,
            "target": None if row.metric.target is None else row.metric.target.text(),
            "riverlog": row.ours, "kafka": row.theirs, "ratio": row.ratio, "met": row.met,
            "riverlog_samples": row.ours_samples, "kafka_samples": row.theirs_samples,
        }
        for row in report.rows()
    ]  # fmt: skip
    tables = [{"title": table.title, "columns": table.columns, "rows": table.rows} for table in report.tables]
    return json.dumps({"facts": facts, "remarks": report.remarks, "rows": rows, "tables": tables}, indent=1) + "\n"


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    try:
        chosen = make_plan(options)
        names, remarks = measurable([name.strip() for name in options.brokers.split(",") if name.strip()])
    except ValueError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if (reason := load.missing()) is not None:
        print(f"benchmarks: the load generator cannot be built: {reason}", file=sys.stderr)
        return 1
    for remark in remarks:
        print(remark, file=sys.stderr)
    if not names:
        return 1
    load.binary()
    parent = options.directory or cache_directory()
    facts = {"date": datetime.date.today().isoformat(), **machine.facts(parent), "Kafka": kafka.version_default}
    with tempfile.TemporaryDirectory(prefix="data-", dir=parent) as directory:
        bench = Bench(plan=chosen, names=names, directory=Path(directory))
        bench.report.remarks += remarks
        if options.quick:
            bench.report.remarks.append("A quick run: little of everything, not for the record.")
        if options.cold:
            bench.report.remarks.append("Cold: each run of a load has a process that was just started.")
        try:
            run(bench)
        except KeyboardInterrupt:
            bench.report.remarks.append("Interrupted: what is missing was not measured.")
    text = page(bench.report, facts, title=f"Benchmarks of {facts['date']}")
    print(text)
    if not options.no_write:
        options.results.mkdir(parents=True, exist_ok=True)
        name = (
            f"{facts['date']}-{machine.label(facts)}"
            + ("-quick" if options.quick else "")
            + ("-cold" if options.cold else "")
        )
        (options.results / f"{name}.md").write_text(text)
        (options.results / f"{name}.json").write_text(as_json(bench.report, facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
