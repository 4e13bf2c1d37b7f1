"""Every value of the chart does something: where another one is given, something else is rendered."""

import copy
import sys
import unittest

import yaml

from chart import CHART, MATRIX, ROOT, render

# Another value, where one more, the opposite or "other" is none.
OTHER = {
    "commonLabels": {"a": "b"}, "commonAnnotations": {"a": "b"}, "global.imagePullSecrets": ["other"],
    "image.pullPolicy": "Never", "serviceAccount.annotations": {"a": "b"}, "podSecurityContext.fsGroupChangePolicy": "Always",
    **{f"image.digests.{name}": "sha256:" + "f" * 64 for name in ["coordinator", "worker-cpu", "worker-cuda", "worker-tpu"]},
    "tls.certManager.issuerRef.kind": "Issuer", "tls.certManager.duration": "48h", "tls.certManager.renewBefore": "12h",
    "tls.certManager.dnsNames": ["other.example"], "tls.certManager.ipAddresses": ["10.9.9.9"],
    "coordinator.postgres.connection": "host=other", "coordinator.volume.size": "7Gi", "coordinator.config": {"log_level": "debug"},
    "coordinator.service.type": "NodePort", "coordinator.service.annotations": {"x": "y"},
    "storage.checkpoints.size": "7Gi", "storage.checkpoints.accessMode": "ReadWriteOnce",
    "storage.checkpoints.mountPath": "/other", "storage.data.mountPath": "/other",
    "workerDefaults.sharedMemory": "7Gi", "workerDefaults.scratch": "7Gi", "workerDefaults.extraArgs": ["--log-level=debug"],
    "workerDefaults.topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "x", "whenUnsatisfiable": "ScheduleAnyway"}],
    "workerPools": [{"name": "other", "device": "cpu", "replicas": 1}],
    "networkPolicy.clients": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "networkPolicy.monitoring": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
    "networkPolicy.extraEgress": [{"ports": [{"port": 7}]}], "metrics.interval": "7s", "metrics.labels": {"a": "b"},
    **{f"{part}.{key}": value for part in ["coordinator", "workerDefaults"] for key, value in {
        "resources": {"limits": {"cpu": "7"}, "requests": {"cpu": "7"}}, "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "other", "operator": "Exists"}], "podAnnotations": {"x": "y"}, "podLabels": {"x": "y"},
        "affinity": {"podAffinity": {}}, "extraEnv": [{"name": "OTHER", "value": "1"}],
        "extraVolumes": [{"name": "other", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/other"}]}.items()},
}


def at(values, path):
    for part in path:
        values = values.get(part, {}) if isinstance(values, dict) else {}
    return values


def with_value(values, path, value):
    changed = copy.deepcopy(values)
    node = changed
    for part in path[:-1]:
        node = node.setdefault(part, {})
    node[path[-1]] = value
    return changed


def another(key, value):
    if key in OTHER:
        return OTHER[key]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else "other"


class Values(unittest.TestCase):
    def test_every_value_does_something(self):
        sys.path.insert(0, str(ROOT / "helm"))
        import generate_readme  # noqa: E402
        text = (CHART / "values.yaml").read_text()
        defaults = yaml.safe_load(text)
        keys = [key for key, _, _ in generate_readme.documented_values(text)]
        self.assertEqual(set(OTHER) - set(keys), set())
        rendered = {name: render(values) for name, values in MATRIX.items()}
        idle = []
        for key in keys:
            path = key.split(".")
            for name, values in MATRIX.items():
                given = at(values, path)
                value = another(key, at(defaults, path) if given == {} else given)
                if value == given:
                    continue
                # Two coordinators on SQLite and a database with a volume are refused: not every value goes with all others.
                try:
                    if render(with_value(values, path, value)) != rendered[name]:
                        break
                except Exception as refused:  # noqa: BLE001: Helm's own
                    self.assertRegex(str(refused), "coordinator.replicas|coordinator.volume.existingClaim|coordinator.postgres|tls.secrets", key)
            else:
                idle.append(key)
        self.assertEqual(idle, [])


if __name__ == "__main__":
    unittest.main()
