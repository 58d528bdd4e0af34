"""Builds the image without a Docker engine and checks that it does what docs/image.md says: `make image-test`.

    python tests/docker/image.py [--opencv wheel] [ARCH...]

The Dockerfile is taken as it is; the Python image that it begins with is a stand-in (`stand_in.sh`). Needs root,
buildah, podman, crun, mmdebstrap, curl, and for another architecture QEMU with binfmt_misc. All that is made lies in
build/image, with a log of each step; images and volumes are removed at the end, the stand-ins are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import stat
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from readings import peak_bytes, size_of, told_limit_mib

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/image"
PROGRAMS = ("buildah", "podman", "crun", "mmdebstrap", "unshare", "nsenter", "curl", "dpkg")
BASE = "python:3.11-slim-bookworm"
MOST_BYTES = 400_000_000
MEMORY_MIB = 512
EMULATED_MIB = 2048
"""The emulator's own memory counts too: what it translates, several times the code that it comes from."""
SECOND_START_S = 5.0
DRAIN_S = 10.0
FORBIDDEN = ("sh", "bash", "dash", "gcc", "cc", "g++", "ld", "as", "make", "apt-get", "dpkg", "pip", "curl", "wget")
LISTED = ("numba", "llvmlite", "numpy", "opencv-python-headless", "onnxruntime", "av", "python", "libc6", "libgomp1")
_LIMITS = "import json; from service.limits import describe; print(json.dumps(describe()))"
_INSIDE = "AFTERIMAGE_IMAGE_TEST_INSIDE"
_CLOSES = """
import json, sys
from clients.wire import Encoding, offer_subprotocols
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

offered = offer_subprotocols(Encoding.JSON, sys.argv[1])
with connect("ws://127.0.0.1:8000/v1/streams/closing/ws", subprotocols=offered) as socket:
    socket.send(json.dumps({"type": "hello", "content_type": "image/jpeg"}))
    print(json.loads(socket.recv())["type"], flush=True)
    try:
        while True:
            socket.recv()
    except ConnectionClosed as closed:
        print(closed.rcvd.code if closed.rcvd else None)
"""


class Failed(Exception):
    """A check that does not hold; the message says which."""


def check(holds: object, what: str) -> None:
    """Raise Failed unless something holds."""
    if not holds:
        raise Failed(what)
    print(f"  holds: {what}", flush=True)


class Engine:
    """buildah and podman with a store of their own, for one architecture."""

    def __init__(self, arch: str) -> None:
        self.arch = arch
        self.tag = f"afterimage:{arch}"
        self.memory_mib = MEMORY_MIB if arch == own_arch() else EMULATED_MIB
        store = ["--root", str(FOLDER / "store"), "--runroot", str(FOLDER / "run"), "--storage-driver", "overlay"]
        self._podman = ["podman", *store, "--cgroup-manager", "cgroupfs", "--runtime", "crun"]
        self._buildah = ["buildah", *store]

    def podman(self, *arguments: str, fails: bool = False, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command of podman's; its output is kept. Raises Failed where it fails and may not."""
        command = [*self._podman, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, cwd=FOLDER)
        if done.returncode and not fails:
            raise Failed(f"podman {' '.join(arguments)}: {done.stderr.strip()[-800:]}")
        return done

    def add_base(self, arch: str) -> str:
        """The stand-in of an architecture, made where it is not there yet; returns its image's name."""
        archive, name = FOLDER / f"base-{arch}.tar", f"localhost/stand-in:{arch}"
        if (
            self.podman("image", "exists", name, fails=True).returncode == 0
        ):  # so that layers built on it are taken again
            return name
        if not archive.exists():
            print(f"stand-in for {BASE} on {arch}", flush=True)
            subprocess.run([ROOT / "tests/docker/stand_in.sh", arch, archive], check=True)
        # Debian 12's buildah takes one platform for all stages: both bear this machine's, whatever code is in them.
        self.podman("import", "--quiet", "--arch", own_arch(), str(archive), name)
        return name

    def build(self, opencv: str) -> float:
        """Build the Dockerfile as it is; returns seconds."""
        own = own_arch()
        self.podman("tag", self.add_base(own), BASE)
        arguments = {"OPENCV": opencv}
        if self.arch != own:
            arguments |= {"TARGETARCH": self.arch, "TARGET_IMAGE": self.add_base(self.arch)}
        command = [*self._buildah, "bud", "--isolation", "chroot", "--format", "docker", "--pull-never", "--layers"]
        command += ["--network", "host", *(f"--build-arg={name}={value}" for name, value in arguments.items())]
        command += [part for path in host_files() for part in ("--volume", f"{path}:{path}:ro")]
        command += ["--file", "docker/Dockerfile", "--tag", self.tag, "."]
        begun = time.monotonic()
        with (FOLDER / f"build-{self.arch}.log").open("w") as log:
            done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
        check(done.returncode == 0, f"the Dockerfile builds for {self.arch} ({log.name})")
        return time.monotonic() - begun

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """The image's files."""
        where = self.podman("image", "mount", self.tag).stdout.strip()
        try:
            yield Path(where)
        finally:
            self.podman("image", "unmount", self.tag)

    def confined(self) -> list[str]:
        """Options of a container that may as little as docs/image.md promises is enough."""
        limits = ["--ulimit", "nofile=16384:16384", "--ulimit", "nproc=4096:4096", "--memory", f"{self.memory_mib}m"]
        rights = ["--network", "none", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"]
        return [*limits, *rights, "--security-opt", "no-new-privileges", "--volume", f"data-{self.arch}:/data"]

    def start(self, name: str) -> Container:
        """A server in a confined container."""
        begun = time.monotonic()
        self.podman("run", "--detach", "--name", name, *self.confined(), self.tag)
        return Container(self, name, begun)

    def clean(self) -> None:
        """Remove containers, volumes and images; the stand-ins' archives stay."""
        self.podman("rm", "--all", "--force", fails=True)
        self.podman("volume", "rm", "--all", "--force", fails=True)
        self.podman("rmi", "--all", "--force", fails=True)


class Container:
    """A running server. begun_s: of the monotonic clock."""

    def __init__(self, engine: Engine, name: str, begun_s: float) -> None:
        self.engine, self.name, self.begun_s = engine, name, begun_s
        self.pid = int(self.inspect("{{.State.Pid}}"))

    def inspect(self, form: str) -> str:
        """What podman says of it."""
        return self.engine.podman("inspect", "--format", form, self.name).stdout.strip()

    def near(self, *command: str) -> list[str]:
        """A command in the container's network, in which there is nothing but its loopback."""
        return ["nsenter", "--target", str(self.pid), "--net", *command]

    def status(self, path: str) -> int:
        """Of an answer over HTTP; 0: none came."""
        command = self.near(
            "curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "5"
        )
        said = subprocess.run([*command, f"http://127.0.0.1:8000{path}"], capture_output=True, text=True, check=False)
        return int(said.stdout or 0)

    def answers(self, seconds: float, *awaited: int) -> int:
        """The first of some statuses that /readyz says. Raises Failed where none has come so long after the start."""
        while time.monotonic() - self.begun_s < seconds:
            status = self.status("/readyz")
            if status in awaited:
                return status
            if self.inspect("{{.State.Running}}") != "true":
                raise Failed(f"the server ended: {self.log()[-1500:]}")
            time.sleep(0.05)
        raise Failed(f"/readyz has not said {awaited} after {seconds:.0f} s: {self.log()[-1500:]}")

    def ready(self, seconds: float) -> float:
        """Seconds from `podman run` until /readyz said 200. Raises Failed after so long."""
        self.answers(seconds, 200)
        return time.monotonic() - self.begun_s

    def healthy(self) -> bool:
        """What the image's health check says now."""
        return self.engine.podman("healthcheck", "run", self.name, fails=True).returncode == 0

    def log(self) -> str:
        """All that it has said."""
        done = self.engine.podman("logs", self.name)
        return done.stdout + done.stderr

    def cpu_s(self) -> float:
        """Seconds of a core that it has taken so far, which say more than a clock where others are at work."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> dict[str, float]:
        """MB: of the process now, and the most that its cgroup held, page cache included, where the kernel says so."""
        told = Path(f"/proc/{self.pid}/status").read_text()
        rss = int(next(line.split()[1] for line in told.splitlines() if line.startswith("VmRSS")))
        peak = peak_bytes(Path(f"/proc/{self.pid}/cgroup").read_text())
        return {"rss_mb": rss * 1024 / 1e6} | ({} if peak is None else {"cgroup_peak_mb": peak / 1e6})

    def stop(self) -> tuple[float, int]:
        """Seconds that it took to end after SIGTERM, and its exit status; its log is kept."""
        begun = time.monotonic()
        self.engine.podman("stop", "--time", "60", self.name)
        seconds = time.monotonic() - begun
        (FOLDER / f"{self.name}.log").write_text(self.log())
        return seconds, int(self.inspect("{{.State.ExitCode}}"))


def own_arch() -> str:
    """Debian's name of this machine's architecture."""
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()


def host_files() -> list[Path]:
    """Certificates and pip's configuration of this machine, which builds see as it does."""
    found = [Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf")]
    return [path for path in found if path.exists()]


def check_files(engine: Engine, figures: dict[str, Any]) -> None:
    """What is in the image, and what is not; figures: sizes by part, MB."""
    with engine.mounted() as root:
        total = size_of(root)
        site = root / "opt/afterimage/lib/python3.11/site-packages"
        parts = {path.name: round(size_of(path) / 1e6, 1) for path in site.iterdir() if path.is_dir()}
        parts |= {"Python and Debian's libraries": round(size_of(root / "usr") / 1e6, 1)}
        largest = dict(sorted(parts.items(), key=lambda part: -part[1])[:14])
        for name, mb in largest.items():
            print(f"    {mb:7.1f} MB  {name}")
        (FOLDER / f"parts-{engine.arch}.json").write_text(json.dumps(largest, indent=1))
        names = {path.name for path in root.rglob("*") if path.lstat().st_mode & 0o111 and not path.is_dir()}
        check(not names & set(FORBIDDEN), f"no shell, compiler or package manager ({names & set(FORBIDDEN) or 'none'})")
        special = [path for path in root.rglob("*") if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
        check(not special, "no file gives another user's rights")
        check(list(root.glob("usr/lib/*/libgomp.so.1")), "libgomp is there")
        bill = json.loads((root / "usr/share/afterimage/sbom.cdx.json").read_text())
        listed = {item["name"] for item in bill["components"]}
        check(
            bill["bomFormat"] == "CycloneDX" and listed >= set(LISTED),
            f"the bill of materials lists {len(listed)} components",
        )
    figures |= {"unpacked_mb": round(total / 1e6, 1), "largest_mb": largest, "components": len(listed)}
    check(total < MOST_BYTES, f"{total / 1e6:.1f} MB unpacked, less than {MOST_BYTES / 1e6:.0f}")
    made = json.loads(engine.podman("image", "inspect", engine.tag).stdout)[0]
    config = made["Config"]
    check(config["User"] == "10001:10001" and list(config["Volumes"]) == ["/data"], "a user without rights, one volume")
    check(made.get("Healthcheck") or config.get("Healthcheck"), "a health check")


def check_first_start(engine: Engine, seconds: float, figures: dict[str, Any]) -> None:
    """From an empty volume: keys, kernels, a clip, a graceful end."""
    refused = engine.podman("run", "--rm", *engine.confined(), engine.tag, fails=True)
    check(refused.returncode and "keys add" in refused.stdout + refused.stderr, "without keys it says how to make one")
    key = engine.podman("run", "--rm", *engine.confined(), engine.tag, "keys", "add", "test").stdout.strip()
    server = engine.start(f"first-{engine.arch}")
    check(server.answers(seconds, 200, 503) == 503, "/readyz says 503 while kernels are compiled")
    check(not server.healthy(), "and the health check fails")
    first_s = server.ready(seconds)
    print(f"  ready {first_s:.1f} s after the start", flush=True)
    check(
        "compiled" in server.log() and "compiling kernels" in server.log(), "the log tells of kernels that are compiled"
    )
    check(server.healthy(), "the health check succeeds")
    figures |= {"first_start_s": round(first_s, 1), "warm": server.memory()}
    with (FOLDER / f"clip-{engine.arch}.log").open("w") as log:
        command = [
            sys.executable,
            "-m",
            "service.cli",
            "stream",
            "scene",
            "--frames",
            "80",
            "--policy",
            "all",
            "--json",
            "--ack-timeout",
            "10" if engine.arch == own_arch() else "600",
        ]
        done = subprocess.run(
            server.near(*command), stdout=subprocess.PIPE, stderr=log, text=True, check=False,
            cwd=ROOT, env={**os.environ, "AFTERIMAGE_TOKEN": key, "PYTHONPATH": str(ROOT)}, timeout=seconds,
        )  # fmt: skip
    said = [json.loads(line) for line in done.stdout.splitlines()]
    results = [line for line in said if "detections" in line]
    seen_boxes = sum(len(result["detections"]) for result in results)
    check(
        done.returncode == 0 and len(results) == 80 and seen_boxes,
        f"{len(results)} results of a clip, {seen_boxes} boxes",
    )
    figures["streamed"] = server.memory()
    client = subprocess.Popen(
        server.near(sys.executable, "-c", _CLOSES, key), stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert client.stdout is not None
    check(client.stdout.readline().strip() == "ready", "a client is connected")
    stop_s, code = server.stop()
    closed = client.stdout.read().strip()
    client.wait()
    check(closed == "1012", f"at SIGTERM clients are told to return ({closed})")
    check(
        code == 0 and stop_s < DRAIN_S * (1 if engine.arch == own_arch() else 6),
        f"it ends by itself in {stop_s:.1f} s, status {code}",
    )
    figures["stop_s"] = round(stop_s, 1)


def check_second_start(engine: Engine, times: int, most_s: float, figures: dict[str, Any]) -> None:
    """From the volume: kernels are there. The median counts, as the machine may have other things to do."""
    taken: list[float] = []
    cpu_s: list[float] = []
    figures |= {"second_start_s": taken, "second_start_cpu_s": cpu_s}
    for number in range(times):
        server = engine.start(f"second-{engine.arch}-{number}")
        taken.append(round(server.ready(600), 1))
        cpu_s.append(server.cpu_s())
        check(
            "compiled" not in server.log(),
            f"start from the volume in {taken[-1]} s ({cpu_s[-1]:.1f} s of a core), nothing is compiled",
        )
        server.stop()
    middle = statistics.median(taken)
    check(middle <= most_s, f"ready within {most_s:.0f} s from the volume: {middle} s, the median of {taken}")


def check_limits(engine: Engine) -> None:
    """The container's limits are found: its memory by the server that was started first, a quota of one core beside."""
    told = told_limit_mib((FOLDER / f"first-{engine.arch}.log").read_text())
    check(told == engine.memory_mib, f"the server's log names the memory of its control group, {told} MiB")
    limited = ["--cpus", "1", "--entrypoint", "python"]
    said = engine.podman("run", "--rm", *engine.confined(), *limited, engine.tag, "-c", _LIMITS)
    found = json.loads(said.stdout)
    check(found["cores"] == 1, f"--cpus 1 is one core: {found['cores_source']}")
    check(found["memory_bytes"] == engine.memory_mib << 20, f"--memory is found: {found['memory_source']}")


def test(arch: str, opencv: str, figures: dict[str, Any]) -> None:
    """Build and check one architecture; what was measured until a check failed is in the figures."""
    engine, native, begun = Engine(arch), arch == own_arch(), time.monotonic()
    try:
        figures |= {"arch": arch, "opencv": opencv, "build_s": round(engine.build(opencv), 1)}
        check_files(engine, figures)
        check_first_start(engine, 1200 if native else 3600, figures)
        check_limits(engine)
        check_second_start(engine, 5 if native else 1, SECOND_START_S if native else 300.0, figures)
    finally:
        figures["total_s"] = round(time.monotonic() - begun, 1)
        engine.podman("rm", "--all", "--force", fails=True)
        engine.podman("volume", "rm", f"data-{arch}", fails=True)


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("arch", nargs="*", default=["amd64", "arm64"], choices=["amd64", "arm64"])
    parser.add_argument("--opencv", choices=["source", "wheel"], default="source")
    parser.add_argument("--keep", action="store_true", help="keep images and the layers of the build")
    options = parser.parse_args()
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        print(f"expected root, and {', '.join(PROGRAMS)}; missing: {', '.join(missing) or 'root'}", file=sys.stderr)
        return 2
    if (
        _INSIDE not in os.environ
    ):  # a mount table of its own: podman takes the old hierarchy of cgroups where both are there
        inside = {**os.environ, _INSIDE: "1"}
        os.execvpe("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv], inside)
    if Path("/sys/fs/cgroup/unified").is_mount():
        subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    figures: list[dict[str, Any]] = []
    try:
        for arch in options.arch:
            print(f"{arch}:", flush=True)
            figures.append({})
            test(arch, options.opencv, figures[-1])
            print(json.dumps(figures[-1], indent=1), flush=True)
    except (Failed, subprocess.SubprocessError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    finally:
        (FOLDER / "figures.json").write_text(json.dumps(figures, indent=1))
        if not options.keep:
            Engine("amd64").clean()
    return 0


if __name__ == "__main__":
    sys.exit(main())
