"""Manifests of docker/kubernetes: by their schemas, by what they refer to, and by what the server takes."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from first_start import SLOW_START_S
from manifests import FOLDER, KUBECTL, Manifest, documents, problems, rendered, templates, the

from service import configuration
from service.app import create_app
from service.settings import Settings

BASE = FOLDER / "base"
RAY = FOLDER / "ray"
OVERLAYS = sorted(path for path in (FOLDER / "overlays").iterdir())
OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
"""Of Kubernetes: the oldest that docs/kubernetes.md says will do, and the newest that the validator knows."""
MADE_BY_HAND = {"afterimage-keys"}
"""Secrets that docs/kubernetes.md has the reader make."""

needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")


def strict(manifest: Manifest, version: str = NEWEST) -> None:
    """Raises ValidationError for a field that the schema does not know, or of a wrong type."""
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.fixture(scope="module")
def base() -> list[Manifest]:
    """The base as its files say it, with the ConfigMaps that kustomize makes."""
    kustomization = documents(BASE / "kustomization.yaml")[0]
    made = [
        {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": one["name"]},
            "data": {name: (BASE / name).read_text() for name in one["files"]},
        }
        for one in kustomization["configMapGenerator"]
    ]  # fmt: skip
    return [manifest for name in kustomization["resources"] for manifest in documents(BASE / name)] + made


@pytest.fixture
def settings(base: list[Manifest], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """In force in a pod, whatever its image says."""
    monkeypatch.setenv("AFTERIMAGE_KEYS_FILE", "/data/keys")
    monkeypatch.setenv("AFTERIMAGE_HOST", "127.0.0.1")
    for variable in the(base, "StatefulSet", "afterimage")["spec"]["template"]["spec"]["containers"][0]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    configuration.check(BASE / "afterimage.yaml")
    return configuration.load(file=BASE / "afterimage.yaml").settings


@pytest.fixture(scope="module")
def gateway() -> str:
    return (BASE / "haproxy.cfg").read_text()


def test_every_manifest_fits_its_schema(base: list[Manifest]) -> None:
    for manifest in base:
        strict(manifest, OLDEST)
        strict(manifest, NEWEST)


def test_a_typo_is_found(base: list[Manifest]) -> None:
    for path, right, wrong in (
        (("spec", "template", "spec", "containers", 0), "readinessProbe", "readynessProbe"),
        (("spec", "template", "spec", "securityContext"), "runAsNonRoot", "runAsNonroot"),
        (("spec",), "podManagementPolicy", "podManagmentPolicy"),
    ):
        broken: Any = copy.deepcopy(the(base, "StatefulSet", "afterimage"))
        inside = broken
        for part in path:
            inside = inside[part]
        inside[wrong] = inside.pop(right)
        with pytest.raises(kubernetes_validate.ValidationError, match=wrong):
            strict(broken)


def test_kustomizations_list_every_file() -> None:
    for folder in (BASE, RAY, *OVERLAYS):
        kustomization = documents(folder / "kustomization.yaml")[0]
        generated = [name for one in kustomization.get("configMapGenerator", ()) for name in one["files"]]
        listed = [*kustomization["resources"], *generated, *(one["path"] for one in kustomization.get("patches", ()))]
        files = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
        assert {name for name in listed if "/" not in name} == files, folder
        assert len(listed) == len(set(listed)), folder
        assert all((folder / name).exists() for name in listed), folder


@needs_kubectl
@pytest.mark.parametrize("folder", [BASE, *OVERLAYS], ids=lambda path: path.name)
def test_what_is_applied_fits_too(folder: Path) -> None:
    manifests = rendered(folder)
    for manifest in manifests:
        strict(manifest)
    secrets = {
        volume["secret"]["secretName"]
        for _, template in templates(manifests)
        for volume in template["spec"]["volumes"]
        if "secret" in volume
    }
    assert problems(manifests, secrets) == []
    text = (FOLDER.parents[1] / "docs/kubernetes.md").read_text()
    for name in secrets:
        assert re.search(rf"create secret \w+ {name} ", text), "and how to make it"


def test_what_manifests_refer_to_is_there(base: list[Manifest]) -> None:
    assert problems(base, MADE_BY_HAND) == []


def _service(manifests: list[Manifest]) -> Any:
    return the(manifests, "StatefulSet", "afterimage")["spec"]


BREAKS: dict[str, tuple[Callable[[list[Manifest]], Any], str]] = {
    "selector": (lambda m: the(m, "Service", "afterimage")["spec"]["selector"].update(x="y"), "selects those of []"),
    "every pod": (lambda m: the(m, "Service", "afterimage")["spec"]["selector"].popitem(), "selects those of"),
    "port": (lambda m: the(m, "Service", "afterimage")["spec"]["ports"][0].update(targetPort="htp"), "no port 'htp'"),
    "probe": (
        lambda m: _service(m)["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"].update(port="https"),
        "a probe of afterimage asks no port",
    ),
    "mount": (lambda m: _service(m)["volumeClaimTemplates"][0]["metadata"].update(name="x"), "there is no volume data"),
    "unused": (lambda m: _service(m)["template"]["spec"]["volumes"].append({"name": "x"}), "volume x is not mounted"),
    "config": (lambda m: the(m, "ConfigMap", "afterimage-settings")["metadata"].update(name="x"), "no ConfigMap"),
    "orphan": (lambda m: the(m, "ConfigMap", "afterimage-settings")["metadata"].update(name="x"), "used by no pod"),
    "secret": (
        lambda m: _service(m)["template"]["spec"]["volumes"][1]["secret"].update(secretName="x"),
        "there is no Secret x",
    ),
    "headless": (lambda m: the(m, "Service", "afterimage-pods")["spec"].pop("clusterIP"), "no headless Service"),
    "target": (
        lambda m: the(m, "HorizontalPodAutoscaler", "afterimage")["spec"]["scaleTargetRef"].update(kind="Deployment"),
        "there is no Deployment afterimage",
    ),
    "policy": (
        lambda m: the(m, "NetworkPolicy", "afterimage-gateway")["spec"]["egress"][0]["ports"][0].update(port=80),
        "have no port 80",
    ),
    "budget": (
        lambda m: the(m, "PodDisruptionBudget", "afterimage")["spec"]["selector"]["matchLabels"].update(x="y"),
        "PodDisruptionBudget afterimage",
    ),
    "scrape": (
        lambda m: _service(m)["template"]["metadata"]["annotations"].update({"prometheus.io/port": "1"}), "of port 1,",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_reference_that_leads_nowhere_is_found(base: list[Manifest], name: str) -> None:
    broken = copy.deepcopy(base)
    change, said = BREAKS[name]
    change(broken)
    assert any(said in line for line in problems(broken, MADE_BY_HAND)), problems(broken, MADE_BY_HAND)


def test_pods_are_confined(base: list[Manifest]) -> None:
    """As the namespace's level of pod security, `restricted`, asks; and no more than they need beside it."""
    labels = the(base, "Namespace", "afterimage")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(list(templates(base))) == 2
    for _, template in templates(base):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
    for account in (one for one in base if one["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert the(base, "NetworkPolicy", "afterimage")["spec"]["egress"] == []


def test_the_server_takes_what_it_is_given(base: list[Manifest], settings: Settings) -> None:
    pod = the(base, "StatefulSet", "afterimage")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    command, option, config = container["args"]
    assert (command, option) == ("serve", "--config")
    file = Path(config)
    assert file.name in the(base, "ConfigMap", volumes[mounts[str(file.parent)]]["configMap"]["name"])["data"]
    assert settings.keys_file is not None
    assert "secret" in volumes[mounts[str(settings.keys_file.parent)]]
    assert f" --from-file={settings.keys_file.name}\n" in (FOLDER.parents[1] / "docs/kubernetes.md").read_text()
    assert settings.port == container["ports"][0]["containerPort"]
    assert settings.host == "0.0.0.0"
    assert not settings.model_fields_set & {"workers", "threads", "cache_bytes"}, "they follow the pod's limits"
    assert settings.drain_s < pod["terminationGracePeriodSeconds"]
    assert not settings.sources, "each pod would watch each camera"
    for path in (settings.state_folder, Path(os.environ["AFTERIMAGE_CACHE_DIR"])):
        assert mounts[str(path.parent)] == "data", "the root is read-only"
    paths = set(create_app(settings).openapi()["paths"])
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    assert {*probes.values(), "/metrics"} <= paths
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= SLOW_START_S, "the kernels are compiled meanwhile"


def test_a_setting_that_is_none_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "afterimage.yaml"
    wrong.write_text((BASE / "afterimage.yaml").read_text() + "worker: 2\n")
    with pytest.raises(configuration.ConfigurationError, match="worker"):
        configuration.check(wrong)


def test_the_gateway_knows_every_pod_that_there_may_be(base: list[Manifest], gateway: str, settings: Settings) -> None:
    workload = the(base, "StatefulSet", "afterimage")
    name, service = workload["metadata"]["name"], workload["spec"]["serviceName"]
    most = the(base, "HorizontalPodAutoscaler", "afterimage")["spec"]["maxReplicas"]
    lines = [line.split() for line in gateway.splitlines() if line.strip().startswith("server ")]
    domain = f"{service}.${{NAMESPACE}}.svc.${{CLUSTER_DOMAIN}}:{settings.port}"
    pods = [(f"{name}-{number}", number + 1) for number in range(most)]
    assert lines == [["server", pod, f'"{pod}.{domain}"', "id", str(ordinal)] for pod, ordinal in pods]
    assert the(base, "HorizontalPodAutoscaler", "afterimage")["spec"]["minReplicas"] > 1


def test_the_gateway_finds_what_its_file_names(base: list[Manifest], gateway: str, settings: Settings) -> None:
    pod = the(base, "Deployment", "afterimage-gateway")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    file = Path(container["command"][-1])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert file.name in the(base, "ConfigMap", volumes[mounts[str(file.parent)]]["configMap"]["name"])["data"]
    overlay = yaml.safe_load((FOLDER / "overlays/tls/gateway.yaml").read_text())["spec"]["template"]["spec"]
    with_tls = [*container["ports"], *overlay["containers"][0]["ports"]]
    assert sorted(port["containerPort"] for port in with_tls) == sorted(map(int, re.findall(r"bind :(\d+)", gateway)))
    certificate = re.search(r" crt (\S+) ", gateway)
    assert certificate is not None
    assert str(Path(certificate[1]).parent) == overlay["containers"][0]["volumeMounts"][0]["mountPath"]
    given = {variable["name"] for variable in container["env"]}
    assert set(re.findall(r"\$\{(\w+)\}", gateway)) == given
    assert f"defined({overlay['containers'][0]['env'][0]['name']})" in gateway
    for probe in ("readinessProbe", "livenessProbe"):
        assert f"{{ path {container[probe]['httpGet']['path']} }}" in gateway
    stop = re.search(r"hard-stop-after (\d+)s", gateway)
    assert stop is not None
    waits = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert waits + int(stop[1]) < pod["terminationGracePeriodSeconds"]
    for kind in ("client", "server", "tunnel"):
        limit = re.search(rf"timeout {kind} (\d+)s", gateway)
        assert limit is not None
        assert int(limit[1]) > max(2 * settings.ping_s, settings.detect_timeout_s, settings.view_idle_s)


@pytest.fixture(scope="module")
def ray() -> Manifest:
    return documents(RAY / "cluster.yaml")[0]


def groups(ray: Manifest) -> list[Manifest]:
    """Of the cluster's pods."""
    return [ray["spec"]["headGroupSpec"], *ray["spec"]["workerGroupSpecs"]]


def test_pods_of_ray_fit_their_schema(ray: Manifest) -> None:
    """There is no schema of RayCluster here: its own fields are compared with those that KubeRay's v1 knows."""
    assert (ray["apiVersion"], ray["kind"]) == ("ray.io/v1", "RayCluster")
    assert set(ray) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(ray["spec"]) == {"headGroupSpec", "workerGroupSpecs"}
    assert set(ray["spec"]["headGroupSpec"]) == {"rayStartParams", "template"}
    for group in ray["spec"]["workerGroupSpecs"]:
        known = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert set(group) == known
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups(ray):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": group["template"]}
        strict(template, OLDEST)
        strict(template, NEWEST)
    template = copy.deepcopy(template)
    template["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullPolcy"):
        strict(template)


@needs_kubectl
def test_what_is_applied_beside_ray_fits(ray: Manifest) -> None:
    manifests = rendered(RAY)
    for manifest in manifests:
        if manifest["kind"] != "RayCluster":
            strict(manifest)
    assert the(manifests, "RayCluster", "afterimage")["spec"]["workerGroupSpecs"] == ray["spec"]["workerGroupSpecs"]
    for group in groups(ray):
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        assert the(manifests, "ConfigMap", volumes["settings"]["configMap"]["name"])["data"].keys() == {
            "afterimage.yaml"
        }
        assert volumes["keys"]["secret"]["secretName"] in MADE_BY_HAND


def test_members_of_ray_take_what_they_are_given(ray: Manifest) -> None:
    settings = configuration.check(RAY / "afterimage.yaml")
    assert not settings.sources
    known = {f"AFTERIMAGE_{key}".upper() for key in Settings.model_fields} | set(configuration.OTHER_VARIABLES)
    for group in groups(ray):
        container = group["template"]["spec"]["containers"][0]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        given = {variable["name"]: variable["value"] for variable in container["env"]}
        ours = {name for name in given if name.startswith("AFTERIMAGE_")}
        assert ours <= known | {"AFTERIMAGE_CLUSTER_PORT"}
        assert mounts[str(Path(given["AFTERIMAGE_CONFIG"]).parent)] == "settings"
        assert mounts[str(Path(given["AFTERIMAGE_KEYS_FILE"]).parent)] == "keys"
        assert mounts[str(Path(given["AFTERIMAGE_CACHE_DIR"]).parent)] == "data"
        assert given["AFTERIMAGE_STATE_FOLDER"] == "", "whatever the image says: it is not for members"
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    head, members = groups(ray)
    assert head["rayStartParams"]["num-cpus"] == "0", "none there"
    cores = members["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
    assert settings.workers == settings.threads == int(cores) == int(members["rayStartParams"]["num-cpus"]), "one a pod"
    assert "trusted_proxies" not in settings.model_fields_set, (
        "whoever reaches members would choose the address that they are counted under"
    )


def test_rays_own_ports_are_for_the_cluster_alone(ray: Manifest) -> None:
    policy = documents(RAY / "network.yaml")[0]["spec"]
    own = {"ray.io/cluster": ray["metadata"]["name"]}
    assert policy["podSelector"]["matchLabels"] == own
    among, beyond = policy["ingress"]
    assert among == {"from": [{"podSelector": {"matchLabels": own}}]}
    opened = [(port["port"], port.get("endPort", port["port"])) for port in beyond["ports"]]
    ports = [port for group in groups(ray) for port in group["template"]["spec"]["containers"][0]["ports"]]
    reached = {port["name"] for port in ports if any(first <= port["containerPort"] <= last for first, last in opened)}
    assert reached == {"http", "member"}
    assert {port["name"] for port in ports} - reached == {"gcs", "dashboard", "client"}
