"""The manifests for Kubernetes, of one server and of several, compared with the routes, the settings and the image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pubsub.env_file import check_env_file
from pubsub.http.routes import ROUTES, RouteRole
from pubsub.settings import LIVE, Settings
from pubsub.settings_reader import check_settings
from tests.harness import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


class Manifest:
    """The objects of a file, by kind and name; the pods of the servers, and what they run."""

    def __init__(self, path: str, workload: str) -> None:
        loaded = list(yaml.safe_load_all((REPOSITORY / path).read_text()))
        self.objects: dict[tuple[str, str], Any] = {(each["kind"], each["metadata"]["name"]): each for each in loaded}
        self.versions = {each["apiVersion"] for each in loaded}
        self.workload = self.of(workload)["spec"]
        self.pod: dict[str, Any] = self.workload["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.variables: dict[str, str] = {each["name"]: each["value"] for each in self.container["env"]}

    def of(self, kind: str, name: str = "pubsub") -> Any:
        return self.objects[kind, name]

    @property
    def settings(self) -> Settings:
        values = {name.lower(): value for name, value in self.variables.items()}
        return check_settings({name: value for name, value in values.items() if name != "env_file"})

    @property
    def env_file(self) -> str:
        return str(self.of("Secret")["stringData"]["pubsub.env"])


ONE = Manifest("deploy/kubernetes.yaml", "StatefulSet")
SEVERAL = Manifest("deploy/cluster/kubernetes.yaml", "Deployment")
EACH = pytest.mark.parametrize("manifest", [ONE, SEVERAL], ids=["one", "several"])


def test_they_have_all_that_servers_need() -> None:
    common = {("Secret", "pubsub"), ("Service", "pubsub"), ("PodDisruptionBudget", "pubsub")}
    assert ONE.objects.keys() == {*common, ("StatefulSet", "pubsub")}
    redis = {("Secret", "pubsub-redis"), ("Service", "pubsub-redis"), ("StatefulSet", "pubsub-redis")}
    assert SEVERAL.objects.keys() == {*common, ("Deployment", "pubsub"), *redis, ("NetworkPolicy", "pubsub-redis")}
    assert ONE.versions == {"v1", "apps/v1", "policy/v1"}
    assert SEVERAL.versions == {"v1", "apps/v1", "policy/v1", "networking.k8s.io/v1"}


def test_only_servers_with_an_engine_are_several() -> None:
    assert ONE.workload["replicas"] == 1, "a server without JOURNAL_URL shares no topics"
    assert SEVERAL.workload["replicas"] == 3
    assert "JOURNAL_URL=redis://" in SEVERAL.env_file


@EACH
def test_all_select_the_same_pods(manifest: Manifest) -> None:
    labels = manifest.workload["template"]["metadata"]["labels"]
    assert labels
    assert manifest.workload["selector"]["matchLabels"] == labels
    assert manifest.of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert manifest.of("Service")["spec"]["selector"] == labels
    assert manifest.workload.get("serviceName", "pubsub") == manifest.of("Service")["metadata"]["name"]


@EACH
def test_ports_are_those_of_the_image(manifest: Manifest) -> None:
    (port,) = manifest.container["ports"]
    assert [str(port["containerPort"])] == re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    assert port["containerPort"] == Settings().port
    assert [each["targetPort"] for each in manifest.of("Service")["spec"]["ports"]] == [port["name"]]


@EACH
@pytest.mark.parametrize("name", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_a_probe_asks_a_route_that_needs_no_key(manifest: Manifest, name: str) -> None:
    asked = manifest.container[name]["httpGet"]
    (route,) = [each for each in ROUTES if (each.method, each.path) == ("GET", asked["path"])]
    assert route.role is RouteRole.NONE
    assert asked["port"] == manifest.container["ports"][0]["name"]


@EACH
def test_a_pod_is_taken_out_while_it_still_serves(manifest: Manifest) -> None:
    probe = manifest.container["readinessProbe"]
    longest = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert longest < manifest.settings.drain_sec


@EACH
def test_a_pod_has_time_to_close_its_clients(manifest: Manifest) -> None:
    settings = manifest.settings
    assert manifest.pod["terminationGracePeriodSeconds"] > settings.drain_sec + settings.shutdown_timeout_sec


def test_the_clients_of_a_pod_have_reconnected_before_the_next_one_goes() -> None:
    assert SEVERAL.workload["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert SEVERAL.workload["minReadySeconds"] > SEVERAL.settings.reconnect_spread_sec


@EACH
def test_a_busy_server_is_not_killed(manifest: Manifest) -> None:
    """A server that answers late is slow, and a restart would only add the reconnects of all clients."""
    probe = manifest.container["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60


@EACH
def test_variables_are_settings(manifest: Manifest) -> None:
    assert manifest.settings.log_format == "json"
    assert not {name.lower() for name in manifest.variables} & LIVE, (
        "a variable overrides the file, so that no reload changes it"
    )


@EACH
def test_the_file_with_settings_is_mounted_whole(manifest: Manifest) -> None:
    """A file that is mounted by subPath would never change."""
    mounts = {each["mountPath"]: each for each in manifest.container["volumeMounts"]}
    folder, _, name = manifest.variables["ENV_FILE"].rpartition("/")
    assert "subPath" not in mounts[folder]
    (volume,) = [each for each in manifest.pod["volumes"] if each["name"] == mounts[folder]["name"]]
    assert volume["secret"]["secretName"] == manifest.of("Secret")["metadata"]["name"]
    assert name in manifest.of("Secret")["stringData"]
    assert volume["secret"]["defaultMode"] & 0o040, "the group of the server reads it"
    assert manifest.pod["securityContext"]["fsGroup"] == manifest.pod["securityContext"]["runAsGroup"]


@pytest.mark.parametrize(
    ("manifest", "restarting"), [(ONE, set[str]()), (SEVERAL, {"journal_url"})], ids=["one", "several"]
)
def test_the_settings_in_the_file_are_valid(manifest: Manifest, restarting: set[str], tmp_path: Path) -> None:
    """All but ``restarting`` change without a restart."""
    file = tmp_path / "pubsub.env"
    file.write_text(manifest.env_file)
    check_env_file(str(file))
    names = {name.lower() for name in re.findall(r"^#?(\w+)=", manifest.env_file, re.MULTILINE)}
    assert names - LIVE == restarting
    check_settings({name.lower(): value for name, value in re.findall(r"^(\w+)=(.*)", manifest.env_file, re.MULTILINE)})


def test_the_data_are_those_of_the_image() -> None:
    (claim,) = ONE.workload["volumeClaimTemplates"]
    (mount,) = [each for each in ONE.container["volumeMounts"] if each["name"] == claim["metadata"]["name"]]
    assert f"DATA_DIR={mount['mountPath']}" in DOCKERFILE


@EACH
def test_the_user_is_that_of_the_image(manifest: Manifest) -> None:
    user = str(manifest.pod["securityContext"]["runAsUser"])
    assert re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE) == [user]


@EACH
def test_a_pod_may_do_little(manifest: Manifest) -> None:
    assert_little(manifest.pod)


def test_a_pod_of_redis_may_do_little() -> None:
    assert_little(SEVERAL.of("StatefulSet", "pubsub-redis")["spec"]["template"]["spec"])


def assert_little(pod: Any) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_redis_has_one_name_port_and_password() -> None:
    service = SEVERAL.of("Service", "pubsub-redis")["spec"]
    workload = SEVERAL.of("StatefulSet", "pubsub-redis")["spec"]
    secret = SEVERAL.of("Secret", "pubsub-redis")["stringData"]
    found = re.search(r"^JOURNAL_URL=redis://:(.+)@([\w-]+):(\d+)/0$", SEVERAL.env_file, re.MULTILINE)
    assert found
    assert found[1] == secret["password"]
    assert f"requirepass {found[1]}" in secret["redis.conf"].splitlines()
    assert found[2] == "pubsub-redis"
    assert [each["port"] for each in service["ports"]] == [int(found[3])]
    (container,) = workload["template"]["spec"]["containers"]
    assert [each["containerPort"] for each in container["ports"]] == [int(found[3])]
    labels = workload["template"]["metadata"]["labels"]
    assert service["selector"] == labels == workload["selector"]["matchLabels"]
    policy = SEVERAL.of("NetworkPolicy", "pubsub-redis")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    (allowed,) = policy["ingress"][0]["from"]
    assert allowed["podSelector"]["matchLabels"] == SEVERAL.workload["selector"]["matchLabels"]


def test_redis_keeps_its_file_on_the_volume() -> None:
    workload = SEVERAL.of("StatefulSet", "pubsub-redis")["spec"]
    (claim,) = workload["volumeClaimTemplates"]
    (container,) = workload["template"]["spec"]["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == claim["metadata"]["name"]]
    lines = SEVERAL.of("Secret", "pubsub-redis")["stringData"]["redis.conf"].splitlines()
    assert f"dir {mount['mountPath']}" in lines
    (read,) = [each for each in container["command"] if each.endswith(".conf")]
    assert read.startswith(tuple(each["mountPath"] for each in container["volumeMounts"]))
