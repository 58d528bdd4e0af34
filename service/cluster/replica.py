"""A member in a process of Ray Serve: one of the modules that know Ray.

Ray's proxy, the cluster's common address, passes requests to any member; clients of streams are sent on to the owning
member's own listener, which is the server's usual one. Both are the same app and the same Service.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import serve
from starlette.types import ASGIApp

from service import logs
from service.cluster.actor import RayLink
from service.cluster.member import Member
from service.cluster.plan import DRAINS, MARGIN_S, Plan
from service.commands.common import err
from service.malloc import bound_pools

NAME = "member"
HEALTH_S = 2.0
REQUESTS = 1000
"""That the proxies hand a member at once; single images wait in its own queue, which is bounded."""


class Replica:
    """Made by Ray Serve, which awaits `__init__`, asks for `check_health`, and awaits `__del__` at the end."""

    async def __init__(self, plan: Plan) -> None:  # type: ignore[misc]  # as Serve has it
        bound_pools()
        host = str(ray.util.get_node_ip_address())
        settings = plan.member_settings(host)
        logs.set_up(settings.log_format, settings.log_level, err)
        self._member = Member(plan, host, RayLink())
        await self._member.start()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """What Ray's proxy reaches."""
        return self._member.gateway

    async def check_health(self) -> None:
        """Raise where this member is of no use; that it answers at all is seen to by Ray."""
        self._member.check()

    async def __del__(self) -> None:
        """Leave and drain."""
        await self._member.stop()


def application(plan: Plan) -> Any:
    """The plan as an application of Ray Serve."""
    settings = plan.member_settings(plan.host)
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=NAME,
        num_replicas=plan.replicas,
        ray_actor_options={"num_cpus": plan.reserve_cores},
        max_ongoing_requests=REQUESTS,
        graceful_shutdown_timeout_s=DRAINS * settings.drain_s + MARGIN_S,
        health_check_period_s=HEALTH_S,
        logging_config={"enable_access_log": False},
    )
    deployment._version = plan.digest  # or all members would be started anew when one is to be added
    return deployment.bind(plan)
