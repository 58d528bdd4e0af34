"""What a cluster is to be: what may be in it, what members make of it, and when they must be started anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.catalogue import BUILT_IN
from service.cluster.messages import Keys
from service.cluster.plan import ClusterError, Plan, check_open, node_address, plan_of
from service.settings import Settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sources": {"door": {"url": "rtsp://camera/1"}}}, "sources: not in a cluster"),
        ({"lan": True}, "lan: not in a cluster"),
        ({"mqtt_host": "broker"}, "mqtt_host: not in a cluster"),
        ({"state_folder": "/var/lib/afterimage"}, "state_folder: not in a cluster"),
    ],
)
def test_settings_of_a_server_that_is_alone_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        plan_of(Settings(**settings), settings)


def test_one_kind_of_keys() -> None:
    with pytest.raises(ClusterError, match="expected one of"):
        plan_of(Settings(keys_file="/keys"), {"keys_file": "/keys"}, keys=Keys(1.0, "x"))


def test_members_get_what_was_given_at_their_own_address() -> None:
    given = {"host": "10.0.0.1", "port": 80, "workers": 3}
    plan = plan_of(Settings(**given), given, host="10.0.0.1", port=80)
    settings = plan.member_settings("10.0.0.7")
    assert (settings.host, settings.port, settings.workers) == ("10.0.0.7", 0, 3)
    assert list(settings.models) == [BUILT_IN]
    assert Plan.of_json(plan.as_json()) == plan


def test_more_members_and_other_keys_start_none_anew() -> None:
    plan = Plan({"workers": 1}, keys=Keys(1.0, "a"))
    assert replace(plan, replicas=9, keys=Keys(2.0, "b")).digest == plan.digest
    assert replace(plan, settings={"workers": 2}).digest != plan.digest
    assert replace(plan, keys=Keys()).digest != plan.digest, "one without keys cannot take any"


def test_what_comes_from_afar_is_not_taken_for_local() -> None:
    check_open(Plan(host="127.0.0.1"), "127.0.0.1")
    check_open(Plan(host="0.0.0.0"), "10.0.0.7")
    with pytest.raises(ClusterError, match="on loopback"):
        check_open(Plan(host="0.0.0.0"), "127.0.0.1")


def test_the_address_for_ray() -> None:
    assert node_address("127.0.0.1") == "127.0.0.1"
    assert node_address("10.0.0.7") == "10.0.0.7"


def test_everywhere_is_this_machines_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from ipaddress import ip_address

    monkeypatch.setattr("service.cluster.plan.lan_addresses", lambda: (ip_address("fd77::1"), ip_address("10.7.0.1")))
    assert node_address("0.0.0.0") == "10.7.0.1"
    monkeypatch.setattr("service.cluster.plan.lan_addresses", lambda: ())
    with pytest.raises(ClusterError, match="--host"):
        node_address("0.0.0.0")
