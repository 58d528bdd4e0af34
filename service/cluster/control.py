"""Starts, looks at and ends a cluster, from the command line: one of the modules that know Ray.

A Ray that was started here ends with the cluster (`service.cluster.note`); one of somebody else's is only used.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from socket import create_connection
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.experimental import internal_kv

from service.cluster.actor import DIRECTORY, NAMESPACE, directory
from service.cluster.messages import Keys
from service.cluster.note import Note, began
from service.cluster.plan import GCS_PORT, ClusterError, Plan, check_open
from service.cluster.replica import NAME, application
from service.serve import bind

APP = "afterimage"
PLAN = b"afterimage_plan"
logging.getLogger("ray.serve").setLevel(logging.WARNING)
PLACES = 1024
"""Cores that a Ray of ours says it has: members are placed by us, one for each that is asked for."""
STORE_BYTES = 80 << 20
"""Of Ray's object store, which is not used."""
START_S = 120.0
ANSWER_S = 10.0
STARTED, SLOW = "Ray runtime started", "timed out during startup"
STARTS = 3


def start_ray(plan: Plan, node: str, folder: Path) -> Note:
    """A Ray on this machine, in a process of its own that outlives this one. Raises ClusterError.

    node : this machine's address. folder : for its files, with a token
    """
    for host, port, way in ((plan.host, plan.port, "--port names another"), (node, GCS_PORT, "Ray wants this one")):
        try:
            bind(host, port).close()
        except OSError as error:
            hint = f"; {way}" if error.errno == errno.EADDRINUSE else ""
            raise ClusterError(f"{error.filename}: {error.strerror}{hint}") from error
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
        "--node-ip-address", node, "--port", str(GCS_PORT), "--num-cpus", str(PLACES), "--include-dashboard", "false",
        "--object-store-memory", str(STORE_BYTES), "--temp-dir", str(folder),
    ]  # fmt: skip
    for _ in range(STARTS - 1):
        with contextlib.suppress(_SlowStart):
            return _start_head(command, node, folder)
    return _start_head(command, node, folder)


class _SlowStart(ClusterError):
    """Ray gave up on itself: it allows its processes half a minute, which a busy machine may not have."""


def _start_head(command: list[str], node: str, folder: Path) -> Note:
    path = folder / "ray.log"
    with path.open("w") as log:
        own = os.environ | {"TMPDIR": str(folder)}  # what killed members leave goes with the rest
        head = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=own
        )
    note = Note(f"{node}:{GCS_PORT}", head.pid, began(head.pid) or 0, str(folder))
    try:
        note.write()
        _wait_for(head, path)
    except _SlowStart:  # it has ended, and is started once more
        raise
    except BaseException:  # Ctrl-C too: nothing that `down` cannot end is left
        note.end()
        head.wait()
        raise
    return note


def _wait_for(head: subprocess.Popen[bytes], path: Path) -> None:
    """Until Ray says in its log that it has started. Raises ClusterError."""
    until = time.monotonic() + START_S
    while STARTED not in path.read_text():
        if head.poll() is not None:
            said = path.read_text()
            raise (_SlowStart if SLOW in said else ClusterError)(f"Ray does not start: {_line(said) or 'it is silent'}")
        if time.monotonic() > until:
            raise ClusterError(f"Ray does not start within {START_S:g} s")
        time.sleep(0.1)


def up(plan: Plan, address: str) -> None:
    """Bring the cluster on the Ray of an address to a plan, until all members are there. Raises ClusterError."""
    with connected(address) as node:
        check_open(plan, node)
        serve.start(proxy_location="EveryNode", http_options=_http(plan))
        _deploy(_with_keys(plan, plan.keys.text) if plan.keys.version else plan)


def scale(replicas: int, address: str) -> None:
    """Have so many members. Raises ClusterError."""
    with connected(address):
        _deploy(replace(_plan(), replicas=replicas))


def set_keys(keys: Keys, address: str) -> None:
    """Have members take other API keys. Raises ClusterError."""
    with connected(address):
        plan = _plan()
        if not plan.keys.version:
            raise ClusterError("expected a cluster that was started with --keys")
        _deploy(_with_keys(plan, keys.text))


def status(address: str) -> dict[str, Any]:
    """Members, streams, and how Ray sees them. Raises ClusterError."""
    with connected(address) as node:
        plan = _plan()
        try:
            told: dict[str, Any] = _ask(ray.get_actor(DIRECTORY, namespace=NAMESPACE).status.remote())
        except ValueError:
            raise ClusterError("the cluster has no directory now; a member starts one within seconds") from None
        deployments = serve.status().applications[APP].deployments if APP in serve.status().applications else {}
        states = deployments[NAME].replica_states if NAME in deployments else {}
        common = plan.host if plan.host not in ("0.0.0.0", "::") else node
        secure = "s" if plan.settings.get("tls_certificate") else ""
        return {
            "address": f"http{secure}://{common}:{plan.port}",
            "ray": address,
            "wanted": plan.replicas,
            "replicas": {str(getattr(state, "value", state)).lower(): count for state, count in states.items()},
            **told,
        }


def down(address: str) -> None:
    """End a cluster, streams first; Serve ends too, where it has nothing else to run. Raises ClusterError."""
    with connected(address):
        with contextlib.suppress(RayError, RuntimeError):
            serve.delete(APP)
        with contextlib.suppress(RayError, ValueError):
            ray.kill(ray.get_actor(DIRECTORY, namespace=NAMESPACE), no_restart=True)
        internal_kv._internal_kv_del(PLAN, namespace=NAMESPACE)
        with contextlib.suppress(RayError, RuntimeError):
            if not serve.status().applications:
                serve.shutdown()


@contextlib.contextmanager
def connected(address: str) -> Iterator[str]:
    """As a driver of Ray; gives this machine's address as Ray knows it. Raises ClusterError where nobody answers."""
    host, _, port = address.rpartition(":")
    try:
        create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except ValueError:
        raise ClusterError(f"expected an address of Ray such as 10.0.0.7:{GCS_PORT}, got {address!r}") from None
    except OSError as error:
        raise ClusterError(f"no Ray answers at {address}: {error.strerror or error}") from error
    try:
        own = {"_node_ip_address": host} if _is_own(host) else {}  # or Ray would look for it by a route to the world
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False, **own)
    except (RayError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(f"Ray at {address} cannot be used: {_line(str(error))}") from error
    try:
        yield str(ray.util.get_node_ip_address())
    finally:
        ray.shutdown()


def _with_keys(plan: Plan, text: str) -> Plan:
    """The plan, with API keys that members are told of, and their version by the directory. Raises ClusterError."""
    until = time.monotonic() + ANSWER_S
    while True:
        keys: Keys | None = _ask(directory().change_keys.remote(text))
        if keys is not None:
            return replace(plan, keys=keys)
        if time.monotonic() > until:
            raise ClusterError("the cluster's directory has only just been started, and took no keys; try again")
        time.sleep(0.2)


def _deploy(plan: Plan) -> None:
    try:
        serve.run(application(plan), name=APP, route_prefix="/")
    except (RayError, RuntimeError) as error:
        raise ClusterError(f"members cannot be started: {_line(str(error))}") from error
    internal_kv._internal_kv_put(PLAN, plan.as_json().encode(), overwrite=True, namespace=NAMESPACE)


def _plan() -> Plan:
    kept = internal_kv._internal_kv_get(PLAN, namespace=NAMESPACE)
    if kept is None:
        raise ClusterError("Ray is there, and no cluster of Afterimage; start one with: afterimage cluster up")
    return Plan.of_json(kept.decode())


def _http(plan: Plan) -> dict[str, Any]:
    """Of Ray's proxies, which are the common address."""
    options: dict[str, Any] = {"host": plan.host, "port": plan.port}
    settings = plan.member_settings(plan.host)
    if settings.tls_certificate is not None:
        options |= {"ssl_certfile": str(settings.tls_certificate), "ssl_keyfile": str(settings.tls_key)}
    return options


def _is_own(host: str) -> bool:
    """Whether it is an address of this machine."""
    try:
        bind(host, 0).close()
    except OSError:
        return False
    return True


def _ask(reference: Any) -> Any:
    try:
        return ray.get(reference, timeout=ANSWER_S)
    except RayError as error:
        raise ClusterError(f"the cluster's directory does not answer: {type(error).__name__}") from error


def _line(text: str) -> str:
    return " ".join(text.split())[-600:]
