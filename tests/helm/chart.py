"""The chart as tests see it: rendered by the real Helm engine, objects as Python values."""

from pathlib import Path

import helm_python
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "weft"
RELEASE = "demo"
NAMESPACE = "ml"

OWN_SECRETS = {"enabled": True, "secrets": {"coordinator": "server", "workers": "peers", "client": "people"}}
SHARED = {
    "replicas": 3,
    "postgres": {"connection": "host=db.example dbname=weft user=weft sslmode=verify-full", "port": 6432,
                 "passwordSecret": "database", "passwordKey": "secret"},
    "config": {"leader_lease": "5s"},
}

# Values that together reach every branch of every template.
MATRIX = {
    "defaults": {},
    "bare": {
        "workerPools": [],
        "serviceAccount": {"create": False},
        "networkPolicy": {"enabled": False},
        "coordinator": {"podDisruptionBudget": {"enabled": False}, "volume": {"existingClaim": "state"}},
        "workerPodDisruptionBudget": {"enabled": False},
        "storage": {"checkpoints": {"existingClaim": "checkpoints"}},
        "metrics": {"dashboards": {"enabled": False}},
    },
    "pools": {
        "workerPools": [
            {"name": "cpu", "device": "cpu", "replicas": 4, "devices": 2, "threads": 8, "extraArgs": ["--log-level=debug"]},
            {"name": "h100", "device": "gpu", "replicas": 2, "gpus": 8, "saveTime": 300, "sharedMemory": "16Gi",
             "resources": {"limits": {"cpu": "64", "memory": "512Gi"}, "requests": {"cpu": "64", "memory": "512Gi"}},
             "priorityClassName": "training", "runtimeClassName": "nvidia", "nodeSelector": {"gpu": "h100"},
             "tolerations": [{"key": "team", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}],
             "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]},
            {"name": "own", "device": "gpu", "replicas": 1, "image": "registry.example/own:1@sha256:" + "0" * 64},
            {"name": "v5e", "device": "tpu", "replicas": 4,
             "tpu": {"accelerator": "tpu-v5-lite-podslice", "topology": "4x4", "chipsPerHost": 4}},
        ],
    },
    "own secrets": {"tls": {**OWN_SECRETS, "clientCertificates": False}},
    "own authority": {"tls": {"enabled": True, "certManager": {"enabled": True}}},
    "shared": {"coordinator": SHARED},
    "shared, own secrets": {"tls": OWN_SECRETS, "coordinator": SHARED},
    "shared, own authority": {
        "tls": {"enabled": True, "certManager": {"enabled": True}},
        # The database's own TLS: whom libpq trusts, and the certificate that it shows in place of a password.
        "coordinator": {
            "replicas": 2,
            "postgres": {"connection": "host=db.example dbname=weft user=weft sslmode=verify-full sslrootcert=/etc/weft-db/ca.crt "
                                       "sslcert=/etc/weft-db/tls.crt sslkey=/etc/weft-db/tls.key"},
            "extraVolumes": [{"name": "database-tls", "secret": {"secretName": "database-tls", "defaultMode": 0o440}}],
            "extraVolumeMounts": [{"name": "database-tls", "mountPath": "/etc/weft-db", "readOnly": True}],
        },
    },
    "everything": {
        "tls": {"enabled": True, "secrets": {"client": "people"},
                "certManager": {"enabled": True, "issuerRef": {"name": "company", "kind": "ClusterIssuer"},
                                "dnsNames": ["weft.example"], "ipAddresses": ["10.0.0.7"]}},
        "fullnameOverride": "weft",
        "commonLabels": {"team": "ml"},
        "commonAnnotations": {"owner": "ada"},
        "global": {"imageRegistry": "mirror.example:5000", "imagePullSecrets": ["mirror"]},
        "image": {"pullPolicy": "Always", "digests": {name: "sha256:" + str(digit) * 64 for digit, name in
                              enumerate(["coordinator", "worker-cpu", "worker-cuda", "worker-tpu"])}},
        "serviceAccount": {"annotations": {"cloud/identity": "weft"}},
        "coordinator": {
            "config": {"heartbeat_timeout": "10s", "max_queued_jobs": 5000, "log_level": "warning"},
            "service": {"type": "LoadBalancer", "annotations": {"internal": "true"}},
            "volume": {"storageClass": "fast"}, "priorityClassName": "system", "nodeSelector": {"disk": "fast"},
            "tolerations": [{"operator": "Exists"}], "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"},
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "x", "operator": "Exists"}]}]}}},
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        },
        "storage": {"checkpoints": {"storageClass": "shared"}, "data": {"existingClaim": "corpus"}},
        "workerDefaults": {
            "affinity": {"nodeAffinity": {}}, "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"},
            "extraEnv": [{"name": "TZ", "value": "UTC"}], "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        },
        "networkPolicy": {"extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        "metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True},
                    "prometheusRule": {"enabled": True}, "labels": {"release": "prometheus"},
                    "dashboards": {"namespace": "monitoring"}},
    },
}


def render(values, name=RELEASE):
    """{template: text}. Raises helm_python.HelmError with Helm's own words."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)  # as install, upgrade, lint and template do
        return chart.render(values, name=name, namespace=NAMESPACE)


def objects(values, name=RELEASE):
    """All objects that a release with these values consists of."""
    found = []
    for template, text in render(values, name).items():
        if template.endswith(".yaml"):
            found.extend(document for document in yaml.safe_load_all(text) if document)
    return found


def of_kind(all_objects, kind, name=None):
    return [o for o in all_objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]


def pod_of(workload):
    """(labels, spec) of a workload's pods, or None."""
    if workload["kind"] == "Pod":
        return workload["metadata"]["labels"], workload["spec"]
    template = workload["spec"].get("template") if isinstance(workload.get("spec"), dict) else None
    return (template["metadata"]["labels"], template["spec"]) if template else None


def pods(all_objects):
    """(object, labels, pod spec) of everything that becomes pods."""
    return [(o, *pod_of(o)) for o in all_objects if pod_of(o)]

