"""The deployment files: what they name exists, and the tools that read them accept them."""

import copy
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"

# The fields of KubeRay's RayCluster (v1) that the file uses. The operator drops misspelt ones silently; so a typo is
# caught here, not in a cluster that never scales.
CLUSTER = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
AUTOSCALER = {"version", "upscalingMode", "idleTimeoutSeconds"}
CONTAINER = {"name", "image", "env", "ports", "resources", "volumeMounts"}


def read(name: str) -> dict[str, Any]:
    content = yaml.safe_load((INFRA / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def deployments() -> list[dict[str, Any]]:
    return list(read("prefect.yaml")["deployments"])


@pytest.mark.parametrize("deployment", deployments(), ids=lambda each: each["name"])
def test_deployments_name_flows_and_their_parameters(deployment: dict[str, Any]) -> None:
    module, _, name = deployment["entrypoint"].rpartition(".")
    found = getattr(importlib.import_module(module), name)
    signature = inspect.signature(found.fn)
    signature.bind(**deployment["parameters"])  # raises where one is unknown or a required one is missing
    for parameter in ("recipe", "config"):
        if parameter in deployment["parameters"]:
            assert (ROOT / deployment["parameters"][parameter]).is_file()
    assert deployment["work_pool"]["name"] == "local-process"
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


def test_curate_is_scheduled() -> None:
    curate = next(each for each in deployments() if each["entrypoint"] == "flows.curate.curate")
    assert [each["active"] for each in curate["schedules"]] == [True]


def test_ray_cluster_has_a_token_and_is_what_ray_up_takes() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = read("ray/cluster.yaml")
    for kind in ("head", "worker"):
        (start,) = (command for command in config[f"{kind}_start_ray_commands"] if "ray start" in command)
        assert "RAY_AUTH_MODE=token" in start
    validate_config(prepare_config(copy.deepcopy(config)))
    config["provider"]["head_ipp"] = config["provider"].pop("head_ip")
    with pytest.raises(Exception, match="head_ip"):  # so it is the real check that passed above
        validate_config(prepare_config(config))


def test_kuberay_has_known_fields_only() -> None:
    cluster = read("ray/kuberay.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert set(spec) == CLUSTER
    assert spec["authOptions"] == {"mode": "token"}
    assert set(spec["autoscalerOptions"]) == AUTOSCALER
    assert set(spec["headGroupSpec"]) == {"serviceType", "rayStartParams", "template"}
    for group in spec["workerGroupSpecs"]:
        assert set(group) == GROUP
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        assert set(pod) <= {"containers", "volumes", "tolerations"}
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert set(container) <= CONTAINER
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert "/data" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_kuberay_groups_are_what_the_autoscaler_derives() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.util import validate_config

    cluster = read("ray/kuberay.yaml")
    cluster["metadata"]["namespace"] = "default"
    config = _derive_autoscaling_config_from_ray_cr(cluster)
    validate_config(config)
    types = {name: each["resources"] for name, each in config["available_node_types"].items()}
    head, cpu, gpu = types["headgroup"], types["cpu"], types["gpu"]
    assert head["CPU"] == 0  # parts never run beside the driver
    assert cpu["CPU"] == 8
    assert "GPU" not in cpu
    assert gpu["GPU"] == 1


def test_versions_are_those_that_are_installed() -> None:
    pins = dict(
        line.split("==")
        for line in re.findall(r"^[a-z0-9-]+==[0-9.]+$", (ROOT / "requirements.lock").read_text(), re.M)
    )
    assert read("prefect.yaml")["prefect-version"] == pins["prefect"]
    assert read("ray/kuberay.yaml")["spec"]["rayVersion"] == pins["ray"]
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    images = re.findall(r"image: (\S+)", (INFRA / "ray/kuberay.yaml").read_text())
    assert set(images) == {f"registry.example/tamis:{version[1]}"}


def test_dockerfile_copies_what_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    sources = [
        name.rstrip("/")
        for line in re.findall(r"^COPY (.+)$", (INFRA / "Dockerfile").read_text(), re.M)
        for name in line.split()[:-1]
    ]
    assert sources
    for name in sources:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored


def test_no_addresses_but_placeholders() -> None:
    """Hosts in the files are example names or this machine."""
    for name in ("prefect.yaml", "ray/cluster.yaml", "ray/kuberay.yaml", "Dockerfile", "README.md"):
        for host in re.findall(r"https?://([^/\s:\"'`)]+)", (INFRA / name).read_text(encoding="utf-8")):
            assert host in ("127.0.0.1", "localhost", "HEAD") or host.endswith(".example"), f"{name}: {host}"
