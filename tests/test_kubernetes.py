"""deploy/kubernetes against the schemas of Kubernetes and KEDA, and against what the service and its images are."""

from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject, ScaledObjectSpec
from fastapi.testclient import TestClient
from pydantic import ValidationError
from redis import Redis

from coreset.settings import ServiceSettings, WorkerSettings
from coreset.storage.storage import Storage
from coreset_service.app import create_app

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
VERSIONS = ("1.28", "1.34")
OTHERS = ("ScaledObject", "Kustomization")
"""Kinds that are not Kubernetes's own."""


def objects() -> list[dict[str, Any]]:
    texts = [path.read_text() for path in sorted(FOLDER.glob("*.yaml"))]
    return [found for text in texts for found in yaml.safe_load_all(text)]


def one(kind: str, name: str) -> dict[str, Any]:
    found = [o for o in objects() if (o["kind"], o.get("metadata", {}).get("name")) == (kind, name)]
    assert len(found) == 1, (kind, name)
    return found[0]


def own_kinds() -> list[dict[str, Any]]:
    return [found for found in objects() if found["kind"] not in OTHERS]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("found", own_kinds(), ids=lambda o: f"{o['kind']}-{o['metadata']['name']}")
def test_each_object_has_its_schema(found: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(found, version, strict=True)


def test_a_wrong_field_is_seen() -> None:
    wrong = one("Deployment", "coreset-worker")
    wrong["spec"]["template"]["spec"]["terminationGrace"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def scaled(found: dict[str, Any]) -> ScaledObjectSpec:
    """Read a ScaledObject by the models made of KEDA's own schema, which pass over a field that they do not know."""
    model = ScaledObject.model_validate(found)
    assert model.model_dump(mode="json", by_alias=True, exclude_unset=True) == found, "KEDA knows no such field"
    return cast(ScaledObjectSpec, model.spec)


@pytest.mark.parametrize("field", ["polling", "pollingInterval"])
def test_a_wrong_field_of_the_autoscaler_is_seen(field: str) -> None:
    wrong = one("ScaledObject", "coreset-worker")
    wrong["spec"][field] = "often"
    with pytest.raises((AssertionError, ValidationError)):
        scaled(wrong)


def test_the_autoscaler_scales_the_workers() -> None:
    found = one("ScaledObject", "coreset-worker")
    assert found["apiVersion"] == "keda.sh/v1alpha1"
    spec = scaled(found)
    assert one("Deployment", spec.scale_target_ref.name)["spec"].get("replicas") is None, "KEDA sets it"
    [config] = found["spec"]["advanced"].values()
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "made-by-keda"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "w"},
            "maxReplicas": spec.max_replica_count,
            **config,
        },
    }
    kubernetes_validate.validate(autoscaler, VERSIONS[-1], strict=True)


def test_what_the_autoscaler_asks_is_what_the_service_answers(redis: Redis, tmp_path: Path) -> None:
    [trigger] = scaled(one("ScaledObject", "coreset-worker")).triggers
    assert trigger.type == "metrics-api"
    host, path = trigger.metadata["url"].removeprefix("http://").split("/", 1)
    service = one("Service", "coreset")
    assert (
        host == f"coreset.{one('Namespace', 'coreset')['metadata']['name']}.svc:{service['spec']['ports'][0]['port']}"
    )
    storage = Storage(str(tmp_path))
    with TestClient(create_app(ServiceSettings(storage=storage.root), redis=redis, storage=storage)) as api:
        assert api.get(f"/{path}").json()[trigger.metadata["valueLocation"]] == 0


def test_selectors_find_the_pods_and_probes_ask_for_what_there_is(redis: Redis, tmp_path: Path) -> None:
    pods = [o["spec"]["template"]["metadata"]["labels"] for o in objects() if "template" in o.get("spec", {})]
    chosen = [o["spec"]["selector"] for o in objects() if o["kind"] in ("Service", "PodDisruptionBudget")]
    for selector in chosen:
        assert selector.get("matchLabels", selector) in pods
    container = one("Deployment", "coreset-service")["spec"]["template"]["spec"]["containers"][0]
    storage = Storage(str(tmp_path))
    with TestClient(create_app(ServiceSettings(storage=storage.root), redis=redis, storage=storage)) as api:
        for probe in ("readinessProbe", "livenessProbe"):
            assert api.get(container[probe]["httpGet"]["path"]).status_code == 200


def test_settings_are_ones_that_there_are() -> None:
    known = {f"CORESET_{name.upper()}" for kind in (ServiceSettings, WorkerSettings) for name in kind.model_fields}
    worker = one("Deployment", "coreset-worker")["spec"]["template"]["spec"]["containers"][0]
    given = {*one("ConfigMap", "coreset")["data"], *(variable["name"] for variable in worker["env"])}
    assert {name for name in given if name.startswith("CORESET_")} <= known


def test_no_pod_is_root_or_may_become_it() -> None:
    for found in objects():
        if "template" not in found.get("spec", {}):
            continue
        pod = found["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"], found["metadata"]["name"]
        for container in pod["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
