"""What deploy/ and compose.yaml say is what Kubernetes takes and what the program reads."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from llmscope.api.headers import SAFETY

ROOT = Path(__file__).parent.parent
KUBERNETES = ROOT / "deploy" / "kubernetes"
MANIFESTS = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")
VERSIONS = ("1.29", "1.37")  # the oldest with ReadWriteOncePod for good, and the newest whose schema is known


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_what_kubernetes_takes(manifest: Path, version: str) -> None:
    kubernetes_validate.validate(read(manifest), version, strict=True)


def test_a_slip_in_a_manifest_is_seen() -> None:
    manifest = read(KUBERNETES / "statefulset.yaml")
    manifest["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_kustomize_is_given_every_manifest_but_the_ingress() -> None:
    listed = read(KUBERNETES / "kustomization.yaml")["resources"]

    assert sorted([*listed, "ingress.yaml"]) == [path.name for path in MANIFESTS]


def test_compose_publishes_the_page_alone_and_on_this_machine_alone() -> None:
    services = read(ROOT / "compose.yaml")["services"]

    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "llmscope_web": ["${LLMSCOPE_BIND:-127.0.0.1}:${LLMSCOPE_WEB_PORT:-8081}:8080"]
    }


def test_every_service_of_compose_is_closed() -> None:
    for name, service in read(ROOT / "compose.yaml")["services"].items():
        closed = {key: service[key] for key in ("read_only", "cap_drop", "security_opt")}

        assert closed == {
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
        }, name


def test_the_example_of_an_env_file_names_what_compose_reads() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    explained = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) - {"COMPOSE_PROFILES"}
    read_by_compose = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text(encoding="utf-8")))

    assert explained == read_by_compose


def test_the_static_page_has_the_headers_that_the_program_sends() -> None:
    said = (ROOT / "deploy" / "nginx" / "page-headers.conf").read_text(encoding="utf-8")
    headers = dict(re.findall(r'^add_header (\S+) "(.+)" always;$', said, re.MULTILINE))

    assert {name.lower().encode(): value.encode() for name, value in headers.items()} == dict(SAFETY)
