#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs families of real programs under several drivers and prints where the results differ from native.

  run.py [--driver native,ptrace] [--family cpython,stress,programs] [--case PATTERN,...] [--results DIR] [--again]
         [--table] [--check]

A driver is native (a chroot on the host's kernel), runc, or a platform of runsc. A case that has a result in DIR (default
~/.cache/runsc-programs) is not run again without --again, so that an interrupted run goes on where it was. --table only
prints. --check ends with status 1 when a driver differs from native in anything but speed. DIR/summary.csv holds a row per case and driver,
DIR/differences.csv one per difference, DIR/DRIVER/FAMILY/CASE.log what a run printed. Needs root.
"""
import argparse
import csv
import fnmatch
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import families  # noqa: E402  (beside this file, also below Bazel)

DRIVER_SCRIPT = HERE.parent / "integration" / "driver.sh"


def run(driver, root, limit, argv):
    """(status, output, seconds) of a command in a fresh container or chroot; always ends within limit + 60 s."""
    environment = dict(os.environ)
    kind = driver
    if driver == "native":
        kind = "chroot"
    elif driver != "runc":
        kind = "runsc"
        environment["RUNSC_FLAGS"] = f"--platform={driver} " + environment.get("RUNSC_FLAGS", "")
    command = [str(DRIVER_SCRIPT), kind, root, "--limit", str(limit), "--", *argv]
    start = time.monotonic()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
        timeout=limit + 60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(errors="replace"), time.monotonic() - start


class Results:
    """The directory of results: DRIVER/FAMILY/CASE.json and .log."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def path(self, driver, family, case):
        return self.directory / driver / family / (case + ".json")

    def load(self, driver, family, case):
        try:
            return families.Outcome(**json.loads(self.path(driver, family, case).read_text()))
        except FileNotFoundError:
            return None

    def store(self, driver, family, case, outcome, output):
        path = self.path(driver, family, case)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".log").write_text(output, errors="replace")
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(vars(outcome), indent=1))
        aside.rename(path)


def chosen(cases, patterns):
    if not patterns:
        return cases
    return [case for case in cases if any(fnmatch.fnmatch(case, one) for one in patterns.split(","))]


def summary(outcome):
    """`12 passed, 1 failure` or the one result of a case without parts."""
    if outcome.status != "ok":
        return outcome.status
    if list(outcome.parts) == [""]:
        return outcome.parts[""][0]
    counts = {}
    for result, _ in outcome.parts.values():
        counts[result] = counts.get(result, 0) + 1
    return ", ".join(f"{count} {result}" for result, count in sorted(counts.items(), reverse=True))


def table(results, drivers, wanted):
    """Prints the table, writes the CSV files, returns the number of differences but those of speed."""
    results.directory.mkdir(parents=True, exist_ok=True)
    rows, found = [], []
    for family, case in wanted:
        native = results.load("native", family.name, case)
        for driver in drivers:
            outcome = results.load(driver, family.name, case)
            if outcome is None:
                continue
            worse, unsupported, known = [], 0, 0
            if native is not None and driver != "native":
                worse = families.differences(native, outcome)
                unsupported = sum(1 for one in worse if families.NO_INET.search(one[3]))
                worse = [one for one in worse if not families.NO_INET.search(one[3])]
                known = sum(1 for one in worse if families.is_known(case, one))
                worse = [one for one in worse if not families.is_known(case, one)]
            found += [(family.name, case, driver, *one) for one in worse]
            ratio = native.rate / outcome.rate if native and native.rate and outcome.rate else 0
            rows.append(
                (family.name, case, driver, summary(outcome), len(worse), unsupported, known, f"{outcome.seconds:.1f}",
                 f"{outcome.rate:.0f}", f"{ratio:.1f}")
            )  # fmt: skip
    head = ("family", "case", "driver", "result", "differences", "inet", "known", "seconds", "rate", "slower")
    with open(results.directory / "summary.csv", "w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([head, *rows])
    with open(results.directory / "differences.csv", "w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("family", "case", "driver", "part", "native", "here", "message"), *found])
    for family, case, driver, part, native, here, message in found:
        last = [line for line in message.splitlines() if line.strip()][-1:]
        print(f"{family} {case} {driver}: {part}: {native} -> {here}: {last[0][:160] if last else ''}")
    for driver in drivers:
        if driver != "native":
            mine = [row for row in rows if row[2] == driver]
            same = sum(1 for row in mine if row[4] == 0)
            print(f"{driver}: {len(mine)} cases, {same} as native, {len(mine) - same} with differences")
    return sum(1 for one in found if one[3] != families.SPEED)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", default="native,ptrace")
    parser.add_argument("--family", default="cpython,stress,programs")
    parser.add_argument("--case", default="")
    parser.add_argument("--results", default=os.path.expanduser("~/.cache/runsc-programs"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    every = {one.name: one for one in (families.CPython(), families.StressNg(run), families.Programs())}
    results = Results(args.results)
    drivers = args.driver.split(",")
    wanted = [(every[name], case) for name in args.family.split(",") for case in chosen(every[name].cases(), args.case)]
    if not wanted:
        raise SystemExit(f"run.py: no case matches {args.case}")
    todo = [(driver, family, case) for family, case in wanted for driver in drivers]
    for number, (driver, family, case) in enumerate([] if args.table else todo, 1):
        if not args.again and results.load(driver, family.name, case) is not None:
            continue
        print(f"[{number}/{len(todo)}] {family.name} {case} {driver} ", end="", flush=True)
        status, output, seconds = run(driver, *family.command(case))
        outcome = family.parse(status, output, seconds)
        results.store(driver, family.name, case, outcome, output)
        print(f"{summary(outcome)} ({seconds:.1f} s)", flush=True)
    count = table(results, drivers, wanted)
    if args.check and count:
        sys.exit(1)


main()
