"""What Kubernetes would be given, and what is wrong with it: references between manifests that no schema knows."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KUBECTL = shutil.which("kubectl")
FOLDER = Path(__file__).parents[2] / "docker/kubernetes"
Manifest = dict[str, Any]

_WORKLOADS = ("Deployment", "StatefulSet")


def documents(path: Path) -> list[Manifest]:
    """The manifests of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def rendered(folder: Path) -> list[Manifest]:
    """The manifests of a kustomization, as `kubectl apply -k` would send them."""
    assert KUBECTL is not None
    said = subprocess.run([KUBECTL, "kustomize", folder], check=True, capture_output=True, text=True, timeout=60)
    return list(yaml.safe_load_all(said.stdout))


def the(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one of that kind and name."""
    found = [one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name]
    assert len(found) == 1, f"expected one {kind} {name!r}, got {len(found)}"
    return found[0]


def templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Names of workloads and their pods' templates."""
    for one in manifests:
        if one["kind"] in _WORKLOADS:
            yield one["metadata"]["name"], one["spec"]["template"]


def problems(manifests: list[Manifest], secrets: set[str]) -> list[str]:
    """References that lead nowhere; empty where there are none.

    secrets : names of Secrets that somebody else makes
    """
    names = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    names |= {("Secret", name) for name in secrets}
    found = [
        f"{one['kind']} {one['metadata']['name']}: {said}"
        for one in manifests
        for said in _problems(one, manifests, names)
    ]
    pods = dict(templates(manifests))
    used = {ref for template in pods.values() for ref in _references(template["spec"])}
    found += [f"{kind} {name}: used by no pod" for kind, name in names - used if kind in ("ConfigMap", "Secret")]
    return found


def _problems(one: Manifest, manifests: list[Manifest], names: set[tuple[str, str]]) -> Iterator[str]:
    kind, spec = one["kind"], one.get("spec", {})
    if kind in _WORKLOADS:
        labels = spec["template"]["metadata"]["labels"]
        if not spec["selector"]["matchLabels"].items() <= labels.items():
            yield "its selector does not match its own pods"
        yield from _pod_problems(spec, names)
    if kind == "StatefulSet":
        service = next(
            (s for s in manifests if s["kind"] == "Service" and s["metadata"]["name"] == spec["serviceName"]), {}
        )
        if service.get("spec", {}).get("clusterIP") != "None":
            yield f"serviceName {spec['serviceName']}: no headless Service"
        elif _selected(service["spec"]["selector"], manifests) != [one["metadata"]["name"]]:
            yield f"serviceName {spec['serviceName']}: of other pods"
    if kind == "Service":
        yield from _port_problems(spec["selector"], [port["targetPort"] for port in spec["ports"]], manifests)
    if kind == "PodDisruptionBudget":
        yield from _port_problems(spec["selector"]["matchLabels"], [], manifests)
    if kind == "NetworkPolicy":
        own = spec["podSelector"]["matchLabels"]
        yield from _port_problems(own, [port["port"] for rule in spec["ingress"] for port in rule["ports"]], manifests)
        for rule in spec["egress"]:
            for peer in rule.get("to", ()):
                ports = [port["port"] for port in rule["ports"]]
                yield from _port_problems(peer["podSelector"]["matchLabels"], ports, manifests)
        for peer in (peer for rule in spec["ingress"] for peer in rule.get("from", ()) if "podSelector" in peer):
            yield from _port_problems(peer["podSelector"]["matchLabels"], [], manifests)
    if kind == "HorizontalPodAutoscaler":
        target = spec["scaleTargetRef"]
        if (target["kind"], target["name"]) not in names:
            yield f"there is no {target['kind']} {target['name']}"


def _selected(labels: dict[str, str], manifests: list[Manifest]) -> list[str]:
    pods = templates(manifests)
    return [name for name, template in pods if labels.items() <= template["metadata"]["labels"].items()]


def _port_problems(labels: dict[str, str], ports: list[int | str], manifests: list[Manifest]) -> Iterator[str]:
    """Of a selector that should be of one workload, whose pods have these ports."""
    selected = _selected(labels, manifests)
    if len(selected) != 1:
        yield f"expected the pods of one workload, {labels} selects those of {selected}"
        return
    template = dict(templates(manifests))[selected[0]]
    known = _ports(template["spec"])
    yield from (f"the pods of {selected[0]} have no port {port!r}" for port in ports if port not in known)


def _ports(pod: Manifest) -> set[int | str]:
    ports = [port for container in pod["containers"] for port in container["ports"]]
    return {port["name"] for port in ports} | {port["containerPort"] for port in ports}


def _pod_problems(spec: Manifest, names: set[tuple[str, str]]) -> Iterator[str]:
    pod = spec["template"]["spec"]
    yield from (f"there is no {kind} {name}" for kind, name in _references(pod) if (kind, name) not in names)
    claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
    volumes = [volume["name"] for volume in pod["volumes"]] + sorted(claims)
    mounts = [mount for container in pod["containers"] for mount in container["volumeMounts"]]
    mounted = {mount["name"] for mount in mounts}
    yield from (f"there is no volume {name}" for name in mounted - set(volumes))
    yield from (f"volume {name} is not mounted" for name in volumes if name not in mounted)
    if len({mount["mountPath"] for mount in mounts}) != len(mounts):
        yield "two volumes are mounted in one place"
    for container in pod["containers"]:
        for probe in (value for name, value in container.items() if name.endswith("Probe")):
            if probe["httpGet"]["port"] not in _ports(pod):
                yield f"a probe of {container['name']} asks no port of it"
    for spread in pod["topologySpreadConstraints"]:
        if spread["labelSelector"]["matchLabels"].items() - spec["template"]["metadata"]["labels"].items():
            yield "topologySpreadConstraints are of other pods"
    scraped = spec["template"]["metadata"].get("annotations", {}).get("prometheus.io/port")
    if scraped is not None and int(scraped) not in _ports(pod):
        yield f"Prometheus is told of port {scraped}, which it has not"


def _references(pod: Manifest) -> Iterator[tuple[str, str]]:
    """Kinds and names of what a pod needs beside it."""
    yield "ServiceAccount", pod["serviceAccountName"]
    for volume in pod["volumes"]:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
