# SPDX-License-Identifier: Apache-2.0
"""The families of real programs: which cases they have, how a case is run, and when two runs of it differ."""
import re
import xml.etree.ElementTree

MARK = "--- result ---"

CPYTHON = (
    "os posix posixpath select selectors poll epoll signal threadsignals eintr subprocess pty openpty mmap fcntl ioctl"
    " fork1 wait3 wait4 popen file fileio io largefile shutil tempfile pathlib glob stat time thread threading"
    " multiprocessing_fork multiprocessing_spawn concurrent_futures asyncio socket socketserver httpservers ssl resource"
    " faulthandler pwd grp uuid platform ctypes dbm zipfile tarfile mailbox"
).split()

STRESS_CLASSES = "filesystem interrupt io memory network os pipe scheduler vm".split()

# Scripts of tests/integration/guest that close with the line PASSED: (name, root, seconds).
PROGRAMS = (
    ("postgres", "programs", 240),
    ("sqlite_heavy", "programs", 240),
    ("git_heavy", "programs", 240),
    ("terminal_programs", "programs", 120),
    ("dpkg_hundred", "programs", 300),
    ("debootstrap", "programs", 600),
    ("make_project", "programs", 300),
    ("node", "languages", 120),
    ("java", "languages", 180),
    ("golang", "languages", 300),
    ("ruby", "languages", 120),
)


class Outcome:
    """What one run of a case gave. `parts`: name -> (result, message); two runs differ where their parts do."""

    def __init__(self, status, parts, note="", seconds=0.0, rate=0.0):
        self.status = status  # "ok" when the run came to its end, else what went wrong
        self.parts = parts
        self.note = note
        self.seconds = seconds
        self.rate = rate  # of work done, per second; 0 when the family counts none


class CPython:
    """One case per test module; its parts are the tests."""

    name = "cpython"

    def cases(self):
        return ["test_" + module for module in CPYTHON]

    def command(self, case):
        """(root, seconds, argv)"""
        script = (
            "cd /tmp && timeout -k 5 1200 python3 -m test -v -u all,-gui,-urlfetch,-largefile --timeout 1100"
            f" --junit-xml /tmp/junit.xml {case} 2>&1; echo \"status $?\"; echo '{MARK}'; cat /tmp/junit.xml"
        )
        argv = ["sh", "-c", script]
        # Tests of a terminal want one; /dev/null in its place would only skip them.
        return "programs", 1260, ["script", "-qec", script, "/dev/null"] if case == "test_ioctl" else argv

    def parse(self, status, output, seconds):
        log, mark, text = output.replace("\r\n", "\n").rpartition(MARK + "\n")
        text = text.strip()
        if status != 0 or not mark:
            return Outcome(f"the container ended with {status}", {}, last_started(output), seconds)
        if not text.startswith("<"):
            return Outcome("no results", {}, last_started(log), seconds)
        # A test's message may hold what XML forbids.
        text = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]", "?", text)
        parts = {}
        for test in xml.etree.ElementTree.fromstring(text).iter("testcase"):
            result, message = "passed", ""
            for child in test:
                if child.tag in ("error", "failure", "skipped"):
                    result, message = child.tag, child.text or ""
            # Of two results of one name (sub-tests), the worse counts.
            if test.get("name") not in parts or result in ("error", "failure"):
                parts[test.get("name")] = (result, message)
        # A module that cannot be loaded has no tests; its log says why.
        return Outcome("ok", parts, "" if parts else log[-1000:], seconds)


def last_started(log):
    """The last test that a log of `-v` names."""
    tests = re.findall(r"^(test\w* \([\w.]+\))", log, re.M)
    return "last: " + tests[-1] if tests else log[-200:].replace("\n", " | ")


class StressNg:
    """One case per stressor: 4 workers for 2 s."""

    name = "stress"
    STATUS = {0: "passed", 1: "error", 2: "failure", 3: "skipped", 4: "skipped", 124: "hang", 137: "hang"}

    def __init__(self, driver):
        self.driver = driver

    def cases(self):
        found = set()
        for group in STRESS_CLASSES:
            status, output, _ = self.driver("native", "programs", 30, ["stress-ng", "--class", group + "?"])
            if status != 0 or "stressors:" not in output:
                raise SystemExit(f"stress-ng does not list the class {group}: {output}")
            found.update(output.partition("stressors:")[2].split())
        return sorted(found)

    def command(self, case):
        script = (
            f"cd /tmp && timeout -k 5 100 stress-ng --{case} 4 -t 2 --metrics-brief --verify --no-rand-seed 2>&1;"
            f" echo \"status $?\"; echo '{MARK}'; ls / >/dev/null && sh -c 'echo alive'"
        )
        return "programs", 130, ["sh", "-c", script]

    def parse(self, status, output, seconds):
        if status != 0 or not output.rstrip().endswith("alive"):
            return Outcome(f"the container ended with {status}", {}, output[-200:].replace("\n", " | "), seconds)
        code = int(re.findall(r"^status (\d+)$", output, re.M)[-1])
        row = re.findall(r"metrc: \[\d+\] ([\w-]+) +(\d+) +([\d.]+)", output)
        operations = sum(int(one[1]) for one in row)
        elapsed = max([float(one[2]) for one in row] or [0.0])
        complaints = re.findall(r"(?:fail|error): *\[\d+\] (.*)", output)
        skips = re.findall(r".*(?:skip|not implemented|not supported).*", output)
        result = self.STATUS.get(code, f"status {code}")
        if result == "passed" and row and operations == 0:
            result = "idle"
        message = "; ".join(dict.fromkeys(complaints or skips))[:300]
        return Outcome("ok", {"": (result, message)}, "", seconds, operations / elapsed if elapsed else 0.0)


class Programs:
    """Scripts that check themselves."""

    name = "programs"

    def cases(self):
        return [name for name, _, _ in PROGRAMS]

    def command(self, case):
        root, limit = next((root, limit) for name, root, limit in PROGRAMS if name == case)
        return root, limit, ["bash", f"/suite/{case}.sh"]

    def parse(self, status, output, seconds):
        passed = status == 0 and output.rstrip().endswith("PASSED")
        tail = "" if passed else output[-300:].replace("\n", " | ")
        return Outcome("ok", {"": ("passed" if passed else f"status {status}", tail)}, "", seconds)


# A run this much slower than native is a finding even when it passes.
SLOW = 50
SPEED = "(speed)"  # the part of such a difference
WORSE = ("idle", "hang", "failure", "error")
# Differences that are known and explained in docs/programs.md, by case and part: these do not fail a test.
KNOWN = {
    "test_time": re.compile(r"test_monotonic_settime"),  # the host's clock is not set from a sandbox
}
# What fails for want of an address family that the sandbox does not have is counted apart.
NO_INET = re.compile(r"Address family not supported|Errno 97\b")


def is_known(case, difference):
    return case in KNOWN and KNOWN[case].search(difference[0]) is not None


def differences(native, other):
    """[(part, native's result, other's, message)] where `other` is worse or else than `native`."""
    if other.status != "ok":
        return [] if native.status != "ok" else [("(run)", "ok", other.status, other.note)]
    if native.status != "ok":
        return [("(run)", native.status, "ok", native.note)]
    if native.parts and not other.parts:
        return [("(module)", f"{len(native.parts)} tests", "none", other.note)]
    found = []
    for part in sorted(set(native.parts) | set(other.parts)):
        a, b = native.parts.get(part, ("absent", "")), other.parts.get(part, ("absent", ""))
        # On a busy machine the host's kernel, too, is late or idle: better than native is no difference.
        if a[0] != b[0] and not (b[0] == "passed" and a[0] in WORSE):
            found.append((part, a[0], b[0], b[1] or a[1]))
    if native.rate and other.rate and native.rate / other.rate > SLOW:
        found.append((SPEED, f"{native.rate:.0f}/s", f"{other.rate:.0f}/s", f"{native.rate / other.rate:.0f} times slower"))
    return found
