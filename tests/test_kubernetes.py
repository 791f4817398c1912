"""deploy/kubernetes.yaml, compared with the routes, the settings and the image."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from pubsub.env_file import check_env_file
from pubsub.http.routes import ROUTES, RouteRole
from pubsub.settings import LIVE, Settings
from pubsub.settings_reader import check_settings
from tests.harness import REPOSITORY

MANIFEST = {each["kind"]: each for each in yaml.safe_load_all((REPOSITORY / "deploy/kubernetes.yaml").read_text())}
POD: dict[str, Any] = MANIFEST["StatefulSet"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
VARIABLES = {each["name"]: each["value"] for each in CONTAINER["env"]}
PROBES = {name: each for name, each in CONTAINER.items() if name.endswith("Probe")}
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def settings() -> Settings:
    values = {name.lower(): value for name, value in VARIABLES.items()}
    return check_settings({name: value for name, value in values.items() if name != "env_file"})


def test_it_has_all_that_a_server_needs() -> None:
    assert MANIFEST.keys() == {"Secret", "Service", "StatefulSet", "PodDisruptionBudget"}
    assert {each["apiVersion"] for each in MANIFEST.values()} == {"v1", "apps/v1", "policy/v1"}
    assert {each["metadata"]["name"] for each in MANIFEST.values()} == {"pubsub"}
    assert MANIFEST["StatefulSet"]["spec"]["replicas"] == 1, "servers share no topics"


def test_all_select_the_same_pods() -> None:
    labels = MANIFEST["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert labels
    assert MANIFEST["StatefulSet"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFEST["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFEST["Service"]["spec"]["selector"] == labels
    assert MANIFEST["StatefulSet"]["spec"]["serviceName"] == MANIFEST["Service"]["metadata"]["name"]


def test_ports_are_those_of_the_image() -> None:
    (port,) = CONTAINER["ports"]
    assert [str(port["containerPort"])] == re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    assert port["containerPort"] == Settings().port
    assert [each["targetPort"] for each in MANIFEST["Service"]["spec"]["ports"]] == [port["name"]]


@pytest.mark.parametrize("name", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_a_probe_asks_a_route_that_needs_no_key(name: str) -> None:
    asked = PROBES[name]["httpGet"]
    (route,) = [each for each in ROUTES if (each.method, each.path) == ("GET", asked["path"])]
    assert route.role is RouteRole.NONE
    assert asked["port"] == CONTAINER["ports"][0]["name"]


def test_a_pod_is_taken_out_while_it_still_serves() -> None:
    probe = PROBES["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"] < settings().drain_sec


def test_a_pod_has_time_to_close_its_clients() -> None:
    assert POD["terminationGracePeriodSeconds"] > settings().drain_sec + settings().shutdown_timeout_sec


def test_a_busy_server_is_not_killed() -> None:
    """A server that answers late is slow, and a restart would only add the reconnects of all clients."""
    probe = PROBES["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60


def test_variables_are_settings() -> None:
    assert settings().log_format == "json"
    assert not {name.lower() for name in VARIABLES} & LIVE, (
        "a variable overrides the file, so that no reload changes it"
    )


def test_the_file_with_settings_is_mounted_whole() -> None:
    """A file that is mounted by subPath would never change."""
    mounts = {each["mountPath"]: each for each in CONTAINER["volumeMounts"]}
    folder, _, name = VARIABLES["ENV_FILE"].rpartition("/")
    assert "subPath" not in mounts[folder]
    (volume,) = [each for each in POD["volumes"] if each["name"] == mounts[folder]["name"]]
    assert volume["secret"]["secretName"] == MANIFEST["Secret"]["metadata"]["name"]
    assert name in MANIFEST["Secret"]["stringData"]
    assert volume["secret"]["defaultMode"] & 0o040, "the group of the server reads it"
    assert POD["securityContext"]["fsGroup"] == POD["securityContext"]["runAsGroup"]


def test_the_settings_in_the_file_are_valid(tmp_path: Any) -> None:
    text = MANIFEST["Secret"]["stringData"]["pubsub.env"]
    file = tmp_path / "pubsub.env"
    file.write_text(text)
    check_env_file(str(file))
    names = re.findall(r"^#?(\w+)=", text, re.MULTILINE)
    assert names
    assert {name.lower() for name in names} <= LIVE


def test_the_user_and_the_data_are_those_of_the_image() -> None:
    assert re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE) == [str(POD["securityContext"]["runAsUser"])]
    (claim,) = MANIFEST["StatefulSet"]["spec"]["volumeClaimTemplates"]
    (mount,) = [each for each in CONTAINER["volumeMounts"] if each["name"] == claim["metadata"]["name"]]
    assert f"DATA_DIR={mount['mountPath']}" in DOCKERFILE


def test_the_pod_may_do_little() -> None:
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
