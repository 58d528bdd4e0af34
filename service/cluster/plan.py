"""What a cluster is to be: what `afterimage cluster up` was told, as every member gets it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from service.catalogue import BUILT_IN, built_in
from service.cluster.messages import Keys
from service.lan.addresses import lan_addresses
from service.settings import EVERYWHERE, ModelSource, Settings, is_loopback

ALONE = {
    "sources": "each camera would be watched by every member",
    "lan": "a member is let in by no code",
    "mqtt_host": "every member would publish under one topic",
    "state_folder": "the directory keeps streams that have a token",
}
"""Settings of a server that is alone, and why."""
DRAINS = 2
"""Times that a member that ends may take `drain_s`: its streams are sent away, then the rest is drained."""
MARGIN_S = 10.0
GCS_PORT = 6379
"""Of the head of a Ray, by custom."""


class ClusterError(RuntimeError):
    """A cluster cannot be started, found or changed; the message says what was expected."""


@dataclass(frozen=True)
class Plan:
    """settings : those that were given; others are each machine's defaults. origins : of the common address.

    reserve_cores : of Ray's count, for each member. keys : API keys that the cluster distributes
    """

    settings: dict[str, Any] = field(default_factory=dict)
    replicas: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    origins: tuple[str, ...] = ()
    reserve_cores: float = 0.0
    keys: Keys = field(default_factory=Keys)

    @property
    def digest(self) -> str:
        """Of all that a running member would have to be started anew for."""
        told = asdict(self)
        del told["replicas"]
        told["keys"] = bool(self.keys.version)  # others reach members that run
        text = json.dumps({**told, "release": release()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_json(self) -> str:
        """To be kept."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Plan:
        """As it was kept."""
        told = json.loads(text)
        return cls(**{**told, "origins": tuple(told["origins"]), "keys": Keys(**told["keys"])})

    def member_settings(self, host: str) -> Settings:
        """Of a member that listens on an address of its machine."""
        settings = Settings(**{**self.settings, "host": host, "port": 0})
        return settings if settings.models else settings.model_copy(update={"models": {BUILT_IN: _built_in()}})


def plan_of(settings: Settings, given: dict[str, Any], **fields: Any) -> Plan:
    """A plan of settings. Raises ClusterError for those of a server that is alone.

    given : those that are not defaults
    """
    for name, why in ALONE.items():
        if getattr(settings, name) not in (None, False, {}):
            raise ClusterError(f"{name}: not in a cluster, {why}")
    if fields.get("keys", Keys()).version and settings.keys_file is not None:
        raise ClusterError("expected one of --keys, which the cluster distributes, and keys_file, of each machine")
    return Plan(settings={name: value for name, value in given.items() if name not in ("host", "port")}, **fields)


def check_open(plan: Plan, node: str) -> None:
    """Raise ClusterError where members would take for local what comes through the common address from afar."""
    if is_loopback(node) and not is_loopback(plan.host):
        raise ClusterError(
            f"expected a common address on loopback, as that of this machine's members ({node}), got {plan.host}"
        )


def _built_in() -> ModelSource:
    return ModelSource(path=built_in())


def node_address(host: str) -> str:
    """The address of this machine for Ray, where the common address is to be `host`. Raises ClusterError."""
    if host not in EVERYWHERE:
        return host
    found = next((str(one) for one in lan_addresses() if one.version == 4), None)
    if found is None:
        raise ClusterError("this machine has no address in a network; --host names one")
    return found


def release() -> str:
    """Version of the product."""
    try:
        return version("afterimage")
    except PackageNotFoundError:  # run from its folder
        return "0"
