# SPDX-License-Identifier: Apache-2.0
"""dockerd and containerd of a test's own: state, sockets and cgroups apart from the machine's. See isolated.py."""
import json
import os
import select
import shutil
import subprocess
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOTFS = os.path.join(HERE, "..", "integration", "rootfs.sh")


def require(condition, message):
    """An assertion that says what was found."""
    if not condition:
        raise AssertionError(message)


def until(condition, what, limit=30):
    """Asks until condition() is true; its value. For states that nothing announces."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        require(time.monotonic() < end, f"not within {limit} s: {what}")
        select.select([], [], [], 0.05)


def use_shim(work, shim, name, runsc):
    """Puts the shim where a containerd that is started later finds it by `name`, and runsc beside it."""
    programs = os.path.join(work, "bin")
    os.mkdir(programs)
    shutil.copy(shim, programs + "/" + name)
    shutil.copy(runsc, programs + "/runsc")
    os.environ["PATH"] = programs + ":" + os.environ["PATH"]


class Daemon:
    """A background process with a log of its own. Subclasses say when it is_ready()."""

    def __init__(self, work, name, argv):
        self.name = name
        self.argv = argv
        self.log = os.path.join(work, name + ".log")
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.await_ready(self.is_ready)

    def await_ready(self, condition):
        def ready():
            require(self.process.poll() is None, f"{self.name} ended: {self.tail()}")
            return condition()

        until(ready, f"{self.name} answers", 60)

    def tail(self, lines=15):
        with open(self.log, errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Containerd(Daemon):
    def __init__(self, work, cri=""):
        """`cri`: the configuration of its CRI plugin, which is off without."""
        self.socket = os.path.join(work, "containerd.sock")
        config = os.path.join(work, "containerd.toml")
        disabled = "" if cri else '"io.containerd.grpc.v1.cri"'
        with open(config, "w") as file:
            file.write(
                f'version = 2\nroot = "{work}/containerd"\nstate = "{work}/containerd-state"\noom_score = 0\n'
                f'disabled_plugins = [{disabled}]\n[grpc]\naddress = "{self.socket}"\n[debug]\nlevel = "debug"\n{cri}'
            )
        super().__init__(work, "containerd", ["containerd", "--config", config])

    def is_ready(self):
        return self.ctr("version").returncode == 0

    def ctr(self, *argv, **kwargs):
        """A ctr command; the CompletedProcess with its output as text."""
        kwargs.setdefault("timeout", 60)
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(["ctr", "-a", self.socket, *argv], capture_output=True, text=True, check=False, **kwargs)


class Docker(Daemon):
    """dockerd on a containerd. `runtimes`: daemon.json's; the first one is the default."""

    def __init__(self, work, containerd, runtimes):
        self.work = work
        self.socket = os.path.join(work, "docker.sock")
        config = os.path.join(work, "daemon.json")
        with open(config, "w") as file:
            json.dump({"runtimes": runtimes, "default-runtime": next(iter(runtimes), "runc")}, file)
        self.environment = dict(os.environ, DOCKER_HOST="unix://" + self.socket, DOCKER_CONFIG=work + "/docker-config")
        super().__init__(
            work, "dockerd",
            ["dockerd", "--config-file", config, "--containerd", containerd.socket, "-H", "unix://" + self.socket,
             "--data-root", work + "/docker", "--exec-root", work + "/docker-exec", "--pidfile", work + "/dockerd.pid",
             "--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "overlay2",
             "--cgroup-parent", "/" + os.path.basename(work)],
        )  # fmt: skip

    def is_ready(self):
        return self("version").returncode == 0

    def popen(self, *argv, **kwargs):
        return subprocess.Popen(["docker", *argv], env=self.environment, **kwargs)

    def __call__(self, *argv, **kwargs):
        """A docker command; the CompletedProcess with its output as text."""
        kwargs.setdefault("timeout", 60)
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            ["docker", *argv], env=self.environment, capture_output=True, text=True, check=False, **kwargs
        )

    def ok(self, *argv, **kwargs):
        """What a docker command that must succeed prints, without the last newline."""
        done = self(*argv, **kwargs)
        require(done.returncode == 0, f"docker {' '.join(argv)}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.rstrip("\n")

    def inspect(self, container, template):
        return self.ok("inspect", "-f", "{{" + template + "}}", container)

    def import_root(self, name):
        """Makes the image `name` of a root of tests/integration (busybox or debian)."""
        root = subprocess.run([ROOTFS, name], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        with subprocess.Popen(["tar", "--one-file-system", "-C", root, "-c", "."], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as tar:  # fmt: skip
            self.ok("import", "-", name, stdin=tar.stdout, timeout=300)


def processes(*words):
    """The command lines that have all the words in them, by pid."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                text = file.read().replace("\0", " ")
        except OSError:
            continue
        if all(word in text for word in words):
            found[int(pid)] = text
    return found


def until_none(condition):
    """What is left of it after a while."""
    try:
        until(lambda: not condition(), "nothing is left", 15)
    except AssertionError:
        return condition()
    return None


def run_tests(tests, arguments):
    """Runs each (name, function) whose name has the pattern in it; the exit status for the script."""
    passed = failed = 0
    for name, test, cleanup in tests:
        if arguments and not any(pattern in name for pattern in arguments):
            continue
        start = time.monotonic()
        try:
            test()
            passed += 1
            print(f"passed {name} ({time.monotonic() - start:.1f} s)", flush=True)
        except (AssertionError, subprocess.SubprocessError, OSError) as error:
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        try:
            cleanup()
        except (AssertionError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"FAILED cleanup after {name}: {error}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1
