#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' pods with runsc, by containerd's CRI plugin: cri_test.py RUNSC --shim SHIM [--flags FLAGS] [PATTERN...]

Asks over gRPC what a kubelet asks. Pods have an interface of the bridge plugin of Debian's containernetworking-plugins.
"""
import argparse
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import isolated  # noqa: E402
from engine import Containerd, HERE, processes, require, run_tests, until, until_none, use_shim  # noqa: E402
from images import make_archive, root_of  # noqa: E402
from stream import Stream  # noqa: E402

LIMIT = 400
IMAGE = "docker.io/library/busybox:latest"
CREATED, RUNNING, EXITED = range(3)
# Takes 100 MB.
HUNGRY = ["awk", 'BEGIN { s = sprintf("%100000000s", "x"); exit length(s) != 100000000 }']
# Methods and their messages, where these are not called Method + Request and Response.
METHODS = {
    "RunPodSandbox": (None, None), "StopPodSandbox": ("PodSandboxRequest", "Empty"),
    "RemovePodSandbox": ("PodSandboxRequest", "Empty"), "PodSandboxStatus": ("PodSandboxRequest", None),
    "ListPodSandbox": ("Empty", None), "CreateContainer": (None, None), "StartContainer": ("ContainerRequest", "Empty"),
    "StopContainer": (None, "Empty"), "RemoveContainer": ("ContainerRequest", "Empty"),
    "ContainerStatus": ("ContainerRequest", None), "ListContainers": ("Empty", None), "ExecSync": (None, None),
    "Exec": (None, "StreamResponse"), "Attach": (None, "StreamResponse"), "ContainerStats": ("ContainerRequest", None), "ImageStatus": (None, None),
}  # fmt: skip


class Cri:
    """The runtime service: cri.Method(field=value...)."""

    def __init__(self, socket, work):
        import grpc

        generated = os.path.join(work, "generated")
        os.mkdir(generated)
        subprocess.run(["protoc", f"-I{HERE}", f"--python_out={generated}", os.path.join(HERE, "cri.proto")], check=True)
        sys.path.insert(0, generated)
        self.pb = importlib.import_module("cri_pb2")
        self.channel = grpc.insecure_channel("unix://" + socket)
        self.error = grpc.RpcError

    def __getattr__(self, method):
        request, response = (name or method + suffix for name, suffix in zip(METHODS[method], ("Request", "Response")))
        service = "ImageService" if method.startswith("Image") else "RuntimeService"
        call = self.channel.unary_unary(
            f"/runtime.v1.{service}/{method}",
            request_serializer=getattr(self.pb, request).SerializeToString,
            response_deserializer=getattr(self.pb, response).FromString,
        )
        return lambda **fields: call(getattr(self.pb, request)(**fields), timeout=60)


class Tests:
    def __init__(self, containerd, cri, work):
        self.containerd = containerd
        self.cri = cri
        self.work = work
        self.count = 0

    def pod(self, pid=None):
        """A running pod: (id, its config). pid: the mode of its pid namespace, one for each container unless told."""
        self.count += 1
        pb = self.cri.pb
        self.pids = pb.CONTAINER if pid is None else pid
        logs = os.path.join(self.work, f"logs{self.count}")
        os.mkdir(logs)
        config = pb.PodSandboxConfig(
            metadata={"name": f"pod{self.count}", "uid": f"uid{self.count}", "namespace": "default"},
            hostname=f"host{self.count}", log_directory=logs,
            linux={"cgroup_parent": "/" + os.path.basename(self.work),
                   "security_context": {"namespace_options": {"pid": self.pids}}},
        )  # fmt: skip
        return self.cri.RunPodSandbox(config=config).pod_sandbox_id, config

    def create(self, pod, name, *command, attempt=0, mounts=(), memory=0, stdin=False, tty=False):
        config = self.cri.pb.ContainerConfig(
            metadata={"name": name, "attempt": attempt}, image={"image": IMAGE}, command=command, mounts=mounts,
            log_path=f"{name}.{attempt}.log", stdin=stdin, tty=tty,
            linux={"resources": {"memory_limit_in_bytes": memory},
                   "security_context": {"namespace_options": {"pid": self.pids}}},
        )  # fmt: skip
        return self.cri.CreateContainer(pod_sandbox_id=pod[0], config=config, sandbox_config=pod[1]).container_id

    def start(self, pod, name, *command, **options):
        container = self.create(pod, name, *command, **options)
        self.cri.StartContainer(container_id=container)
        return container

    def status(self, container):
        return self.cri.ContainerStatus(container_id=container).status

    def exec(self, container, *command):
        """What it prints; it must succeed."""
        done = self.cri.ExecSync(container_id=container, cmd=command, timeout=30)
        require(done.exit_code == 0, f"{command}: status {done.exit_code}: {done.stdout}{done.stderr}")
        return done.stdout.decode().rstrip("\n")

    def log(self, pod, name, attempt=0):
        """The streams and lines of a container's log."""
        path = os.path.join(pod[1].log_directory, f"{name}.{attempt}.log")
        with open(path) as file:
            return [(line.split(" ", 3)[1], line.rstrip("\n").split(" ", 3)[3]) for line in file]

    def exited(self, container):
        until(lambda: self.status(container).state == EXITED, "the container has exited")
        return self.status(container).exit_code

    def cleanup(self):
        for pod in self.cri.ListPodSandbox().items:
            self.cri.StopPodSandbox(pod_sandbox_id=pod.id)
            self.cri.RemovePodSandbox(pod_sandbox_id=pod.id)
        require(not self.cri.ListContainers().containers, "containers are left")
        left = until_none(lambda: {**processes("runsc-sandbox"), **processes("runsc-gofer"), **processes("containerd-shim", "-namespace ")})
        require(not left, f"processes are left: {left}")

    def test_two_containers(self):
        pod = self.pod()
        a = self.start(pod, "a", "sh", "-c", "echo out; echo err >&2; sleep 1000; true")
        b = self.start(pod, "b", "sleep", "1001")
        require(self.status(a).state == RUNNING and self.status(b).state == RUNNING, "both run")
        require(self.exec(a, "cat", "/proc/1/cmdline").startswith("sh\0-c"), "a's init")
        require(self.exec(b, "cat", "/proc/1/cmdline") == "sleep\x001001\0", "b's init")
        require(self.exec(b, "hostname") == f"host{self.count}", f"hostname {self.exec(b, 'hostname')}")
        until(lambda: len(self.log(pod, "a")) == 2, "two lines of log")
        require(set(self.log(pod, "a")) == {("stdout", "out"), ("stderr", "err")}, f"log: {self.log(pod, 'a')}")
        # One shim and one sentry for the pod.
        for name in "runsc-sandbox", "runsc-gofer", "containerd-shim-runsc-v1":
            found = subprocess.run(["pgrep", "-fc", f"^{name} .*"], capture_output=True, text=True).stdout.strip()
            require(found == ("3" if name == "runsc-gofer" else "1"), f"{found} processes {name}")
        done = self.cri.ExecSync(container_id=a, cmd=["sh", "-c", "echo x; echo y >&2; exit 3"], timeout=30)
        require((done.stdout, done.stderr, done.exit_code) == (b"x\n", b"y\n", 3), f"exec: {done}")

    def test_network_of_the_pod(self):
        pod = self.pod()
        a = self.start(pod, "a", "sh", "-c", "while :; do echo pod | nc -l -p 4000; done")
        b = self.start(pod, "b", "sleep", "1000")
        ip = self.cri.PodSandboxStatus(pod_sandbox_id=pod[0]).status.network.ip
        require(ip.startswith("10.77."), f"address {ip}")
        require(ip in self.exec(a, "ip", "-4", "addr", "show", "eth0"), "a's address")
        require(ip in self.exec(b, "ip", "-4", "addr", "show", "eth0"), "b's address")

        def from_outside():
            try:
                with socket.create_connection((ip, 4000), 10) as connection:
                    return connection.recv(100) == b"pod\n"
            except OSError:
                return False

        until(from_outside, "the host reaches a's server")
        until(lambda: self.cri.ExecSync(container_id=b, cmd=["nc", "127.0.0.1", "4000"], timeout=20).stdout == b"pod\n",
              "b reaches a's server on the loopback")  # fmt: skip

    def test_restart_of_one(self):
        pod = self.pod()
        other = self.start(pod, "other", "sleep", "1000")
        first = self.start(pod, "a", "sh", "-c", "echo first; exit 5")
        require(self.exited(first) == 5, f"exit code {self.status(first).exit_code}")
        second = self.start(pod, "a", "sh", "-c", "echo second; sleep 1000", attempt=1)
        self.cri.RemoveContainer(container_id=first)
        until(lambda: self.log(pod, "a", 1) == [("stdout", "second")], "the second attempt's log")
        require(self.log(pod, "a", 0) == [("stdout", "first")], "the first attempt's log")
        require(self.exec(second, "echo", "x") == "x" and self.exec(other, "echo", "y") == "y", "both run")

    def test_stop(self):
        pod = self.pod()
        a = self.start(pod, "a", "sh", "-c", "trap 'exit 6' TERM; echo ready; while :; do sleep 0.1; done")
        b = self.start(pod, "b", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
        for name in "a", "b":
            until(lambda: self.log(pod, name), "its trap is set")
        self.cri.StopContainer(container_id=a, timeout=30)
        require(self.exited(a) == 6, f"a: {self.status(a).exit_code}")
        require(self.status(b).state == RUNNING, "b was stopped, too")
        self.cri.StopContainer(container_id=b, timeout=1)
        require(self.exited(b) == 137, f"b: {self.status(b).exit_code}")
        self.cri.RemoveContainer(container_id=a)
        require(self.cri.PodSandboxStatus(pod_sandbox_id=pod[0]).status.state == 0, "the pod is not ready")

    def stream(self, container, *command, **options):
        """A streaming exec, as of kubectl exec."""
        return Stream(self.cri.Exec(container_id=container, cmd=command, stdout=True, **options).url)

    def test_exec_stream(self):
        pod = self.pod()
        a = self.start(pod, "a", "sleep", "1000")
        done = self.stream(a, "sh", "-c", "echo out; echo err >&2; exit 3", stderr=True).finish()
        require(done == ("out\n", "err\n", 3), f"exec: {done}")
        stream = self.stream(a, "head", "-n", "2", stdin=True)
        stream.type("one\ntw")
        stream.type("o\nthree\n")
        require(stream.finish() == ("one\ntwo\n", "", 0), "its input")
        data = os.urandom(50_000).hex()
        stream = self.stream(a, "sh", "-c", f"head -c {len(data)} | tee /tmp/copied | wc -c", stdin=True)
        for at in range(0, len(data), 30_000):
            stream.type(data[at : at + 30_000])
        require(stream.finish()[0].strip() == str(len(data)), "100 kB of input")
        require(self.stream(a, "cat", "/tmp/copied").finish() == (data, "", 0), "100 kB of output")
        require(self.stream(a, "sh", "-c", "kill -9 $$").finish()[2] == 137, "death by a signal")
        # A client that goes away takes nobody along.
        stream = self.stream(a, "cat", stdin=True)
        stream.type("x\n")
        stream.until("x\n")
        stream.close()
        require(self.exec(a, "echo", "y") == "y", "the container was hurt")

    def test_exec_stream_with_a_terminal(self):
        pod = self.pod()
        a = self.start(pod, "a", "sleep", "1000")
        stream = self.stream(a, "sh", stdin=True, tty=True)
        stream.resize(31, 77)
        stream.type("until test \"$(stty size)\" = '31 77'; do sleep 0.1; done; tty; echo siz''ed\n")
        stream.until("/dev/pts/")
        stream.until("sized\n")
        stream.resize(50, 120)
        stream.type("until test \"$(stty size)\" = '50 120'; do sleep 0.1; done; echo resiz''ed\n")
        stream.until("resized\n")
        stream.type("exit 6\n")
        require(stream.finish()[2] == 6, "exit status")

    def test_attach(self):
        pod = self.pod()
        a = self.start(pod, "a", "sh", "-c", "while read -r line; do echo got $line; test $line != end || exit 4; done", stdin=True)
        stream = Stream(self.cri.Attach(container_id=a, stdin=True, stdout=True, stderr=True).url)
        # containerd carries the input before it listens to the output: what comes at once may be missed.
        stream.until("got one\n", again="one\n")
        stream.close()
        later = Stream(self.cri.Attach(container_id=a, stdin=True, stdout=True, stderr=True).url)
        later.until("got two\n", again="two\n")
        # What it says last is in the log; containerd may end the stream before.
        later.type("end\n")
        require(self.exited(a) == 4, f"exit code {self.status(a).exit_code}")
        until(lambda: ("stdout", "got end") in self.log(pod, "a"), "the log has all")
        lines = [line for stream, line in self.log(pod, "a") if stream == "stdout"]
        require(lines[0] == "got one" and lines[-1] == "got end" and "got two" in lines, f"log: {lines}")

    def test_attach_to_a_terminal(self):
        pod = self.pod()
        a = self.start(pod, "a", "sh", stdin=True, tty=True)
        stream = Stream(self.cri.Attach(container_id=a, stdin=True, stdout=True, tty=True).url)
        stream.resize(41, 103)
        stream.until("here\n", again="echo he''re\n")
        stream.type("until test \"$(stty size)\" = '41 103'; do sleep 0.1; done; tty; echo siz''ed\n")
        stream.until("/dev/pts/0\n")
        stream.until("sized\n")
        stream.type("exit 5\n")
        require(self.exited(a) == 5, f"exit code {self.status(a).exit_code}")

    def test_one_pid_namespace(self):
        pod = self.pod(pid=self.cri.pb.POD)
        self.start(pod, "a", "sleep", "1002")
        b = self.start(pod, "b", "sleep", "1003")
        require("1002" in self.exec(b, "ps", "-o", "args"), "b does not see a's processes")

    def test_shared_memory_and_volumes(self):
        pod = self.pod()
        volume = os.path.join(self.work, f"volume{self.count}")
        os.mkdir(volume)
        mounts = [{"container_path": "/data", "host_path": volume}]
        a = self.start(pod, "a", "sleep", "1000", mounts=mounts)
        b = self.start(pod, "b", "sleep", "1000", mounts=mounts)
        self.exec(a, "sh", "-c", "echo 1 >/dev/shm/x; echo 2 >/data/y")
        require(self.exec(b, "cat", "/dev/shm/x", "/data/y") == "1\n2", "b sees what a wrote")
        self.exec(b, "sh", "-c", "echo 3 >>/data/y")
        require(self.exec(a, "cat", "/data/y") == "2\n3", "a sees what b wrote")

    def test_stats_and_limits(self):
        pod = self.pod()
        a = self.start(pod, "a", "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 1000")
        b = self.start(pod, "b", "sleep", "1000", memory=64 << 20)
        until(lambda: self.cri.ContainerStats(container_id=a).stats.cpu.usage_core_nano_seconds.value > 50_000_000,
              "a's CPU time")  # fmt: skip
        stats = self.cri.ContainerStats(container_id=b).stats
        require(stats.cpu.usage_core_nano_seconds.value < 50_000_000, f"b's CPU time: {stats}")
        require(0 < stats.memory.working_set_bytes.value < 32 << 20, f"b's memory: {stats}")
        done = self.cri.ExecSync(container_id=b, cmd=HUNGRY, timeout=30)
        require(done.exit_code == 137, f"100 MiB within 64: {done}")
        self.exec(a, *HUNGRY)

    def test_out_of_memory_is_the_reason(self):
        pod = self.pod()
        a = self.start(pod, "a", *HUNGRY, memory=64 << 20)
        require(self.exited(a) == 137, f"exit code {self.status(a).exit_code}")
        until(lambda: self.status(a).reason == "OOMKilled", f"reason {self.status(a).reason}")

    def test_program_that_is_not_there(self):
        pod = self.pod()
        b = self.start(pod, "b", "sleep", "1000")
        a = self.create(pod, "a", "/no/such/program")
        try:
            self.cri.StartContainer(container_id=a)
            raise AssertionError("it was started")
        except self.cri.error as error:
            require("no such file" in error.details(), f"error: {error.details()}")
        require(self.exec(b, "echo", "x") == "x", "b ended, too")

    def test_stop_of_the_pod_ends_all(self):
        pod = self.pod()
        containers = [self.start(pod, name, "sleep", "1000") for name in "abc"]
        self.cri.StopPodSandbox(pod_sandbox_id=pod[0])
        for container in containers:
            self.exited(container)
        self.cri.RemovePodSandbox(pod_sandbox_id=pod[0])
        require(not self.cri.ListContainers().containers, "containers are left")

    def test_lost_sandbox(self):
        pod = self.pod()
        a = self.start(pod, "a", "sleep", "1000")
        subprocess.run(["pkill", "-KILL", "-f", f"^runsc-sandbox .*{pod[0]}"], check=True)
        require(self.exited(a) == 137, f"exit code {self.status(a).exit_code}")
        until(lambda: self.cri.PodSandboxStatus(pod_sandbox_id=pod[0]).status.state == 1, "the pod is not ready")

    def test_lost_shim(self):
        pod = self.pod()
        a = self.start(pod, "a", "sleep", "1000")
        subprocess.run(["pkill", "-KILL", "-f", f"^containerd-shim-runsc-v1 .*{pod[0]}"], check=True)
        # 137, or containerd's own 255 where its wait ended with the connection.
        require(self.exited(a) in (137, 255), f"exit code {self.status(a).exit_code}")
        until(lambda: self.cri.PodSandboxStatus(pod_sandbox_id=pod[0]).status.state == 1, "the pod is not ready")

    def test_restart_of_containerd(self):
        pod = self.pod()
        a = self.start(pod, "a", "sleep", "1000")
        b = self.start(pod, "b", "sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; exit 9")
        self.containerd.stop()
        self.containerd.start()

        def answers():
            try:
                return self.status(a).state == RUNNING
            except self.cri.error:
                return False

        until(answers, "containerd knows of the container")
        require(self.exec(a, "echo", "x") == "x", "a runs")
        self.exec(b, "touch", "/go")
        require(self.exited(b) == 9, f"exit code {self.status(b).exit_code}")
        c = self.start(pod, "c", "sleep", "1000")
        require(self.exec(c, "echo", "y") == "y", "a new one runs")


def network(work):
    """A bridge for pods, in this network namespace."""
    directory = os.path.join(work, "cni")
    os.mkdir(directory)
    config = {
        "cniVersion": "0.4.0", "name": "pods",
        "plugins": [{"type": "bridge", "bridge": "pods0", "isGateway": True,
                     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/24"}]],
                              "routes": [{"dst": "0.0.0.0/0"}], "dataDir": work + "/ipam"}}],
    }  # fmt: skip
    with open(directory + "/10-pods.conflist", "w") as file:
        json.dump(config, file)
    return directory


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runtime")
    parser.add_argument("--shim", required=True)
    parser.add_argument("--flags", default="")
    parser.add_argument("pattern", nargs="*")
    arguments = parser.parse_intermixed_args()
    work = isolated.enter(LIMIT)
    use_shim(work, arguments.shim, "containerd-shim-runsc-v1", os.path.realpath(shutil.which(arguments.runtime)))
    options = os.path.join(work, "runsc.toml")
    with open(options, "w") as file:
        pairs = (flag.lstrip("-").split("=") for flag in arguments.flags.split())
        file.write(f'root = "{work}/runsc"\n[runsc_config]\n' + "".join(f'{k} = "{v}"\n' for k, v in pairs))
    # What containerd and the plugins keep outside their own directories.
    for directory in "/run/netns", "/var/lib/cni":
        os.makedirs(directory, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
    plugin = 'plugins."io.containerd.grpc.v1.cri"'
    containerd = Containerd(work, f"""
[{plugin}]
sandbox_image = "{IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[{plugin}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{network(work)}"
[{plugin}.containerd]
default_runtime_name = "runsc"
[{plugin}.containerd.runtimes.runsc]
runtime_type = "io.containerd.runsc.v1"
[{plugin}.containerd.runtimes.runsc.options]
TypeUrl = "io.containerd.runsc.v1.options"
ConfigPath = "{options}"
""")
    archive = os.path.join(work, "busybox.tar")
    # The pause container's program is the image's command.
    make_archive(root_of("busybox"), IMAGE, archive, ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"])
    done = containerd.ctr("-n", "k8s.io", "image", "import", archive)
    require(done.returncode == 0, f"import: {done.stderr}")
    cri = Cri(containerd.socket, work)
    until(lambda: cri.ImageStatus(image={"image": IMAGE}).image.id, "the image is known")
    tests = Tests(containerd, cri, work)
    status = run_tests(
        [(name, getattr(tests, name), tests.cleanup) for name in dir(tests) if name.startswith("test_")],
        arguments.pattern,
    )
    if status:
        print(containerd.tail(60), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
