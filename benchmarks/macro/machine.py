"""What the figures were measured on: no host name and no path, so that it may be published."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path


def facts(directory: Path) -> dict[str, str]:
    """Names and values, in the order in which they are printed. `directory` is where the brokers keep their data."""
    return {
        "CPU": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_bytes(Path('/proc/meminfo').read_text()) / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": file_system(Path("/proc/mounts").read_text(), directory.resolve()),
        "Python": platform.python_version(),
        "Java": java_version(),
        "commit": commit(),
    }


def cpu_model(cpuinfo: str) -> str:
    """The first `model name` of /proc/cpuinfo."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def memory_bytes(meminfo: str) -> int:
    """MemTotal of /proc/meminfo."""
    found = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def file_system(mounts: str, directory: Path) -> str:
    """The type of the file system that holds `directory`, by the longest mount point above it in /proc/mounts."""
    best, kind = -1, "unknown"
    for line in mounts.splitlines():
        _, mount_point, found, *_ = line.split()
        if directory.is_relative_to(mount_point) and len(mount_point) >= best:
            best, kind = len(mount_point), found
    return kind


def java_version() -> str:
    """The first line of `java -version`, or that there is none."""
    try:
        said = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr
    except OSError:
        return "none"
    found = re.search(r'version "([^"]+)"', said)
    return found.group(1) if found else "unknown"


def commit() -> str:
    """The commit that was measured, marked where the tree had changes."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True,
        )  # fmt: skip
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def label(facts_of_machine: dict[str, str]) -> str:
    """A short name for a file: `2-cores-intel-xeon-…`."""
    model = re.sub(r"\(R\)|\(TM\)|CPU|Processor|@.*", " ", facts_of_machine["CPU"])
    return re.sub(r"[^a-z0-9]+", "-", f"{facts_of_machine['cores']} cores {model}".lower()).strip("-")
