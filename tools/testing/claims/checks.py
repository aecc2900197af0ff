# SPDX-License-Identifier: GPL-2.0
"""Shared by check-binary, check-abi and coverage: KTAP reports, and lists that --update writes."""

import difflib
import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
RUN = Path(os.environ.get("DRCACHE_BUILD", TOP / "build")) / "run"


def run(*command):
    """Return the output of a command; exit if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {' '.join(map(str, command))} failed")
    return done.stdout


def compare(path, now, update):
    """Findings: lines that differ between @now and the list at @path: -listed, +found."""
    if update:
        path.write_text("\n".join(["# SPDX-License-Identifier: GPL-2.0"] + now) + "\n")
    listed = path.read_text().splitlines()[1:] if path.exists() else []
    return [line for line in list(difflib.unified_diff(listed, now, lineterm="", n=0))[2:]
            if not line.startswith("@@")]


class Report:
    """A KTAP report, on standard output and in build/run for vm/ktap-report."""

    def __init__(self, name):
        self.path = RUN / f"{name}.ktap"
        self.lines = []
        self.count = 0
        self.failed = False

    def comment(self, text):
        """Add a line that is only in the file."""
        self.lines.append(f"# {text}")

    def add(self, name, findings, skip=None, note=None):
        """Add the result of one check, which fails if there are findings."""
        self.count += 1
        line = f"{'not ok' if findings else 'ok'} {self.count} {name}"
        if skip:
            line += f" # SKIP {skip}"
        elif note:
            line += f": {note}"
        self.failed |= bool(findings)
        self.lines += [f"# {finding}" for finding in findings] + [line]
        print(*findings, line, sep="\n")

    def write(self):
        """Write the file; return the exit status."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(["KTAP version 1", f"1..{self.count}"] + self.lines) + "\n")
        return int(self.failed)
