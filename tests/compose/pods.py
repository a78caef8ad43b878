"""Pods of Kubernetes, run by compose as a kubelet would run them.

The rule of this module: what a manifest says is done, and what cannot be done here is refused, so
that a test of it means what it seems to mean. The only fields without an effect are those that say
when a kubelet looks, starts and stops, and who asks for how many.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

Fields: TypeAlias = dict[str, Any]

TIMING = {"lifecycle", "readinessProbe", "terminationGracePeriodSeconds"}
IMPLIED = {"runAsNonRoot", "seccompProfile", "fsGroupChangePolicy", "automountServiceAccountToken"}
"""True of every container that Docker runs for us, or of no consequence to a volume that is new."""

_RESOLVER = ("dnsPolicy", "dnsConfig")
_SECURITY, _DROPPED = "securityContext", "capabilities"


def write_compose_file(
    file: Path,
    manifest: str,
    images: Mapping[str, str],
    secrets: Mapping[str, Mapping[str, str]] | None = None,
    hosts: Mapping[str, str] | None = None,
) -> None:
    """Write a compose file with one pod of each workload in a manifest.

    Args:
        images: what stands for each image.
        secrets: the content of each Secret that is named.
        hosts: addresses of names that the cluster's DNS would have.
    """
    made: Fields = {"services": {}, "volumes": {}}
    for document in yaml.safe_load_all(manifest):
        if document["kind"] == "Service":
            continue  # it is a name, which is in ``hosts``
        assert document["kind"] in {"Deployment", "StatefulSet"}, document["kind"]
        name, spec = document["metadata"]["name"], document["spec"]
        _only(spec, {"replicas", "selector", "serviceName", "template", "volumeClaimTemplates"})
        pod = spec["template"]["spec"]
        made["services"][f"{name}-pod"] = _shared(pod, hosts or {})
        made["volumes"].update(_volumes(pod, spec.get("volumeClaimTemplates", [])))
        for each in pod["containers"]:
            service = _container(each, secrets or {})
            service.update(image=images[each["image"]], **_user(pod, each))
            service.update(network_mode=f"service:{name}-pod", depends_on=[f"{name}-pod"])
            made["services"][each["name"]] = service
    file.write_text(json.dumps(made, indent=2))  # JSON is YAML


def _shared(pod: Fields, hosts: Mapping[str, str]) -> Fields:
    """Return what the containers of a pod share: a network, and how names are resolved."""
    security = pod.get("securityContext", {})
    resolver = pod.get("dnsConfig", {})
    _only(pod, IMPLIED | TIMING | {"containers", "volumes", "securityContext", *_RESOLVER})
    _only(security, IMPLIED | {"runAsUser", "fsGroup", "sysctls"})
    _only(resolver, {"nameservers", "searches", "options"})
    assert (pod.get("dnsPolicy") == "None") == bool(resolver)
    return {
        "image": "c2c-test/app",
        "command": ["sleep", "infinity"],
        "init": True,
        # A network of its own would have Docker's resolver in it.
        "network_mode": "bridge",
        "extra_hosts": [f"{host}:{address}" for host, address in hosts.items()],
        "sysctls": {each["name"]: each["value"] for each in security.get("sysctls", [])},
        "dns": resolver.get("nameservers", []),
        "dns_search": resolver.get("searches", []),
        "dns_opt": [f"{each['name']}:{each['value']}" for each in resolver.get("options", [])],
    }


def _volumes(pod: Fields, claims: list[Fields]) -> Fields:
    """Return the volumes of a pod by their names, each empty and as a kubelet prepares it."""
    made = {}
    for each in pod.get("volumes", []):
        assert each == {"name": each["name"], "emptyDir": {}}, each
        made[each["name"]] = _volume("mode=0777")
    for each in claims:
        group = pod["securityContext"]["fsGroup"]
        made[each["metadata"]["name"]] = _volume(f"mode=2775,gid={group}")
    return made


def _volume(options: str) -> Fields:
    return {"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": options}}


def _container(fields: Fields, secrets: Mapping[str, Mapping[str, str]]) -> Fields:
    """Return a container but for its image, its user and its pod."""
    security = fields["securityContext"]
    _only(fields, TIMING | {"name", "image", "args", "env", "envFrom", "volumeMounts", _SECURITY})
    _only(security, {"runAsUser", "allowPrivilegeEscalation", "readOnlyRootFilesystem", _DROPPED})
    assert security["allowPrivilegeEscalation"] is False
    variables = {each["name"]: each["value"] for each in fields.get("env", [])}
    for each in fields.get("envFrom", []):
        variables.update(secrets[each["secretRef"]["name"]])
    made: Fields = {
        "environment": variables,
        "volumes": [_mount(each) for each in fields["volumeMounts"]],
        "cap_drop": security[_DROPPED]["drop"],
        "read_only": security.get("readOnlyRootFilesystem", False),
        "security_opt": ["no-new-privileges"],
    }
    return {**made, "command": fields["args"]} if "args" in fields else made


def _user(pod: Fields, container: Fields) -> Fields:
    """Return who runs there, whom a pod of the level ``restricted`` has to name."""
    security = {**pod["securityContext"], **container["securityContext"]}
    groups = [str(security["fsGroup"])] if "fsGroup" in security else []
    return {"user": str(security["runAsUser"]), "group_add": groups}


def _mount(fields: Fields) -> Fields:
    _only(fields, {"name", "mountPath", "readOnly"})
    return {
        "type": "volume",
        "source": fields["name"],
        "target": fields["mountPath"],
        "read_only": fields.get("readOnly", False),
        "volume": {"nocopy": True},  # it is empty, whatever the image has in its place
    }


def _only(fields: Fields, known: set[str]) -> None:
    """Raise where there is a field of which nothing is done."""
    assert fields.keys() <= known, f"nothing is done of {sorted(fields.keys() - known)}"
