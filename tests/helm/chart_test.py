"""What the chart renders is right by Helm, by Kubernetes' schemas, and by itself."""

import json
import re
import subprocess
import sys
import unittest

import helm_python
import kubernetes_validate
import yaml

from chart import CHART, MATRIX, NAMESPACE, ROOT, objects, of_kind, pods, render

KUBERNETES = ["1.25", "1.28", "1.31", "1.34", "1.37"]
# Kinds of operators, whose schemas Kubernetes does not have.
FOREIGN = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "Certificate", "Issuer"}
TLS_FOLDER = "/etc/weft-tls"


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


class Rendered(unittest.TestCase):
    def each(self):
        for name, values in MATRIX.items():
            with self.subTest(values=name):
                yield values, objects(values)

    def test_lint_finds_nothing(self):
        for name, values in MATRIX.items():
            for version in KUBERNETES:
                report = helm_python.lint(CHART, values, strict=True, kube_version=f"v{version}.0")
                told = [m for m in report["messages"] if m["severity"] > 1]
                self.assertEqual((told, report["errors"]), ([], []), f"{name} on Kubernetes {version}")

    def test_every_object_is_valid_for_every_kubernetes(self):
        for _, found in self.each():
            for thing in found:
                if thing["kind"] in FOREIGN:
                    continue
                for version in KUBERNETES:
                    kubernetes_validate.validate(thing, version, strict=True)

    def test_a_misspelt_field_would_be_noticed(self):
        thing = of_kind(objects({}), "StatefulSet")[0]
        thing["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(thing, KUBERNETES[-1], strict=True)

    def test_names_are_unique_and_labels_complete(self):
        for values, found in self.each():
            names = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in found]
            self.assertEqual(len(names), len(set(names)))
            for thing in found:
                labels = thing["metadata"]["labels"]
                for label in ["name", "instance", "version", "component", "part-of", "managed-by"]:
                    self.assertIn(f"app.kubernetes.io/{label}", labels, thing["metadata"]["name"])
                self.assertIn("helm.sh/chart", labels)
                for key, value in values.get("commonLabels", {}).items():
                    self.assertEqual(labels[key], value)
                for key, value in values.get("commonAnnotations", {}).items():
                    self.assertEqual(thing["metadata"]["annotations"][key], value)

    def test_selectors_find_the_pods_that_they_mean(self):
        for _, found in self.each():
            all_pods = pods(found)
            for workload, labels, _ in all_pods:
                if workload["kind"] == "Pod":
                    continue
                selector = workload["spec"]["selector"]["matchLabels"]
                owners = [o["metadata"]["name"] for o, other, _ in all_pods if matches(selector, other)]
                self.assertEqual(owners, [workload["metadata"]["name"]])
            for budget in of_kind(found, "PodDisruptionBudget"):
                selector = budget["spec"]["selector"]["matchLabels"]
                owners = [o["metadata"]["name"] for o, labels, _ in all_pods if matches(selector, labels)]
                self.assertEqual(owners, [budget["metadata"]["name"]])
            for policy in of_kind(found, "NetworkPolicy") + of_kind(found, "Service"):
                selector = policy["spec"].get("podSelector", {}).get("matchLabels") or policy["spec"]["selector"]
                has_workers = any(labels["app.kubernetes.io/component"] == "worker" for _, labels, _ in all_pods)
                if has_workers or selector["app.kubernetes.io/component"] != "worker":
                    self.assertTrue(any(matches(selector, labels) for _, labels, _ in all_pods), policy["metadata"])

    def test_pods_are_complete(self):
        for _, found in self.each():
            claims = {o["metadata"]["name"] for o in of_kind(found, "PersistentVolumeClaim")}
            maps = {o["metadata"]["name"] for o in of_kind(found, "ConfigMap")}
            services = {o["metadata"]["name"] for o in of_kind(found, "Service")}
            made = {o["spec"]["secretName"] for o in of_kind(found, "Certificate")}
            for workload, _, spec in pods(found):
                templates = workload["spec"].get("volumeClaimTemplates", [])
                volumes = [v["name"] for v in spec["volumes"]] + [t["metadata"]["name"] for t in templates]
                self.assertEqual(len(volumes), len(set(volumes)))
                if workload["kind"] == "StatefulSet":
                    self.assertIn(workload["spec"]["serviceName"], services)
                for volume in spec["volumes"]:
                    if "configMap" in volume:
                        self.assertIn(volume["configMap"]["name"], maps)
                    if volume.get("secret", {}).get("secretName", "").startswith(("demo-", "weft-")):
                        self.assertIn(volume["secret"]["secretName"], made)
                    claim = volume.get("persistentVolumeClaim", {}).get("claimName", "")
                    if claim.startswith("demo-"):
                        self.assertIn(claim, claims)
                for container in spec["containers"]:
                    mounts = container["volumeMounts"]
                    self.assertEqual({m["name"] for m in mounts} - set(volumes), set())
                    self.assertEqual(len({m["mountPath"] for m in mounts}), len(mounts))
                    ports = {p["name"] for p in container.get("ports", [])}
                    for probe in ["startupProbe", "livenessProbe", "readinessProbe"]:
                        if workload["kind"] in ("StatefulSet", "Deployment"):
                            self.assertIn(container[probe]["httpGet"]["port"], ports)

    def test_pods_have_no_rights(self):
        for _, found in self.each():
            self.assertEqual([o for o in found if o["kind"].startswith(("Role", "ClusterRole"))], [])
            for account in of_kind(found, "ServiceAccount"):
                self.assertIs(account["automountServiceAccountToken"], False)
            for workload, _, spec in pods(found):
                name = workload["metadata"]["name"]
                self.assertIs(spec["automountServiceAccountToken"], False, name)
                security = spec["securityContext"]
                self.assertIs(security["runAsNonRoot"], True, name)
                self.assertGreaterEqual(security["runAsUser"], 10000, name)
                self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"}, name)
                for container in spec["containers"]:
                    self.assertEqual(container["securityContext"],
                                     {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                      "capabilities": {"drop": ["ALL"]}}, name)

    def test_a_worker_may_save_before_its_pod_is_killed(self):
        for values, found in self.each():
            config = yaml.safe_load(of_kind(found, "ConfigMap")[0]["data"]["coordinator.yaml"])
            for workload, labels, spec in pods(found):
                if labels["app.kubernetes.io/component"] != "worker":
                    continue
                arguments = spec["containers"][0]["args"]
                save = int(next(a for a in arguments if a.startswith("--grace=")).removeprefix("--grace=").rstrip("s"))
                hook = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
                self.assertIn(f"weft drain \"$POD_NAME\" --until-restart --wait --limit={save}s", hook)
                self.assertGreaterEqual(spec["terminationGracePeriodSeconds"], save + 60)
                self.assertGreaterEqual(int(config["save_timeout"].rstrip("s")), save)

    def test_images_come_from_the_mirror_and_by_digest(self):
        found = objects(MATRIX["everything"])
        self.assertTrue(pods(found))
        for workload, _, spec in pods(found):
            self.assertEqual(spec["imagePullSecrets"], [{"name": "mirror"}])
            for container in spec["containers"]:
                self.assertRegex(container["image"], r"^mirror\.example:5000/weft/[a-z-]+@sha256:[0-9]{64}$")
        plain = of_kind(objects({}), "StatefulSet", "demo-weft-coordinator")[0]
        self.assertEqual(plain["spec"]["template"]["spec"]["containers"][0]["image"], "weft/coordinator:0.1.0")

    def test_pools_ask_for_their_devices(self):
        found = objects(MATRIX["pools"])
        spec = {name: of_kind(found, "StatefulSet", f"demo-weft-{name}")[0]["spec"]["template"]["spec"]
                for name in ["cpu", "h100", "own", "v5e"]}
        resources = {name: pod["containers"][0]["resources"] for name, pod in spec.items()}
        self.assertNotIn("nvidia.com/gpu", resources["cpu"]["limits"])
        for kind in ["requests", "limits"]:
            self.assertEqual(resources["h100"][kind]["nvidia.com/gpu"], 8)
            self.assertEqual(resources["own"][kind]["nvidia.com/gpu"], 1)
            self.assertEqual(resources["v5e"][kind]["google.com/tpu"], 4)
        self.assertEqual(resources["h100"]["limits"]["cpu"], "64")
        for name, device in [("cpu", "cpu"), ("h100", "gpu"), ("v5e", "cpu")]:  # TPU chips are not used yet
            self.assertIn(f"--device={device}", spec[name]["containers"][0]["args"])
        self.assertEqual(spec["v5e"]["nodeSelector"],
                         {"cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
                          "cloud.google.com/gke-tpu-topology": "4x4"})
        self.assertIn({"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}, spec["v5e"]["tolerations"])
        self.assertEqual([t["key"] for t in spec["h100"]["tolerations"]], ["team", "nvidia.com/gpu"])
        self.assertNotIn("tolerations", spec["cpu"])
        self.assertEqual(spec["h100"]["priorityClassName"], "training")
        self.assertEqual(spec["h100"]["containers"][0]["image"], "weft/worker-cuda:0.1.0")
        self.assertTrue(spec["own"]["containers"][0]["image"].startswith("registry.example/own:1@"))
        shared = {v["name"]: v for v in spec["h100"]["volumes"]}["shared-memory"]
        self.assertEqual(shared["emptyDir"], {"medium": "Memory", "sizeLimit": "16Gi"})

    def test_a_pool_replaces_whole_keys_of_the_defaults(self):
        values = {
            "workerDefaults": {
                "priorityClassName": "training", "runtimeClassName": "nvidia", "tolerations": [{"operator": "Exists"}],
                "nodeSelector": {"disk": "fast"}, "podLabels": {"a": "b"}, "extraArgs": ["--log-level=debug"],
                "resources": {"requests": {"cpu": "16", "memory": "64Gi"}, "limits": {"cpu": "16", "memory": "64Gi"}}},
            "workerPools": [
                {"name": "plain", "device": "cpu", "replicas": 1},
                {"name": "own", "device": "cpu", "replicas": 1, "priorityClassName": "", "runtimeClassName": "",
                 "tolerations": [], "nodeSelector": {}, "podLabels": {}, "extraArgs": [],
                 "resources": {"limits": {"cpu": "2"}}}]}
        found = objects(values)
        plain, own = (of_kind(found, "StatefulSet", f"demo-weft-{name}")[0]["spec"]["template"] for name in ["plain", "own"])
        for key in ["priorityClassName", "runtimeClassName", "tolerations", "nodeSelector"]:
            self.assertEqual(plain["spec"][key], values["workerDefaults"][key])
            self.assertNotIn(key, own["spec"])
        self.assertEqual(plain["metadata"]["labels"]["a"], "b")
        self.assertNotIn("a", own["metadata"]["labels"])
        self.assertIn("--log-level=debug", plain["spec"]["containers"][0]["args"])
        self.assertNotIn("--log-level=debug", own["spec"]["containers"][0]["args"])
        self.assertEqual(own["spec"]["containers"][0]["resources"], {"limits": {"cpu": "2"}, "requests": {}})

    def test_several_coordinators_share_a_database_and_no_volume(self):
        found = objects(MATRIX["shared"])
        self.assertEqual(of_kind(found, "StatefulSet", "demo-weft-coordinator"), [])
        spec = of_kind(found, "Deployment", "demo-weft-coordinator")[0]["spec"]
        self.assertEqual(spec["replicas"], 3)
        # Those that stand by are not ready: nothing may wait for them.
        self.assertEqual(spec["strategy"]["rollingUpdate"]["maxUnavailable"], "100%")
        budget = of_kind(found, "PodDisruptionBudget", "demo-weft-coordinator")[0]["spec"]
        self.assertEqual(budget["maxUnavailable"], 3)
        pod = spec["template"]["spec"]
        volumes = {v["name"]: v for v in pod["volumes"]}
        self.assertEqual(volumes["state"]["emptyDir"], {})
        self.assertEqual(volumes["postgres"]["secret"]["secretName"], "database")
        self.assertEqual(volumes["postgres"]["secret"]["items"], [{"key": "secret", "path": "password"}])
        mounts = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
        config = yaml.safe_load(of_kind(found, "ConfigMap", "demo-weft-coordinator")[0]["data"]["coordinator.yaml"])
        self.assertEqual(config["postgres_password_file"], mounts["postgres"] + "/password")
        self.assertTrue(config["log_root"].startswith(mounts["checkpoints"]))
        self.assertEqual(config["postgres"], MATRIX["shared"]["coordinator"]["postgres"]["connection"])
        terms = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        self.assertEqual({t["podAffinityTerm"]["topologyKey"] for t in terms},
                         {"kubernetes.io/hostname", "topology.kubernetes.io/zone"})
        for term in terms:
            self.assertTrue(matches(term["podAffinityTerm"]["labelSelector"]["matchLabels"],
                                    spec["template"]["metadata"]["labels"]))
        # The API's Service has ready pods only, which is the one that leads.
        service = of_kind(found, "Service", "demo-weft-coordinator")[0]["spec"]
        self.assertNotIn("publishNotReadyAddresses", service)
        self.assertEqual(of_kind(found, "Service", "demo-weft-coordinator-headless"), [])
        egress = of_kind(found, "NetworkPolicy", "demo-weft-coordinator")[0]["spec"]["egress"]
        self.assertIn({"ports": [{"port": 6432, "protocol": "TCP"}]}, egress)
        self.assertIn("3; one leads", render(MATRIX["shared"])["weft/templates/NOTES.txt"])

    def test_a_new_configuration_is_a_new_pod(self):
        def annotations(values):
            return of_kind(objects(values), "StatefulSet", "demo-weft-coordinator")[0]["spec"]["template"]["metadata"]["annotations"]
        self.assertNotEqual(annotations({}), annotations({"coordinator": {"config": {"log_level": "debug"}}}))

    def test_rules_and_dashboards_are_taken_in_as_they_are(self):
        found = objects(MATRIX["everything"])
        rules = {path.stem: yaml.safe_load(path.read_text()) for path in (CHART / "rules").glob("*.yaml")}
        self.assertEqual(len(of_kind(found, "PrometheusRule")), len(rules))
        for stem, rule in rules.items():
            made = of_kind(found, "PrometheusRule", f"weft-{stem.replace('_', '-')}")[0]
            self.assertEqual(made["spec"], rule)
            self.assertEqual(made["metadata"]["labels"]["release"], "prometheus")
        dashboards = {path.name: json.loads(path.read_text()) for path in (CHART / "dashboards").glob("*.json")}
        made = [o for o in of_kind(found, "ConfigMap") if o["metadata"]["labels"].get("grafana_dashboard") == "1"]
        self.assertEqual(len(made), len(dashboards))
        for config_map in made:
            self.assertEqual(config_map["metadata"]["namespace"], "monitoring")
            self.assertEqual(config_map["metadata"]["annotations"]["grafana_folder"], "Weft")
            for name, text in config_map["data"].items():
                self.assertEqual(json.loads(text), dashboards[name])

    def test_monitors_find_the_metrics_ports(self):
        found = objects(MATRIX["everything"])
        monitor = of_kind(found, "ServiceMonitor")[0]
        services = [s for s in of_kind(found, "Service")
                    if matches(monitor["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])
                    and any(p["name"] == monitor["spec"]["endpoints"][0]["port"] for p in s["spec"]["ports"])]
        self.assertEqual([s["metadata"]["name"] for s in services], ["weft-coordinator"])
        monitor = of_kind(found, "PodMonitor")[0]
        watched = [labels for _, labels, spec in pods(found)
                   if matches(monitor["spec"]["selector"]["matchLabels"], labels)]
        self.assertTrue(watched)

    def test_networks_are_closed_but_for_what_is_needed(self):
        policies = {o["metadata"]["name"]: o["spec"] for o in of_kind(objects({}), "NetworkPolicy")}
        self.assertEqual(set(policies), {"demo-weft-coordinator", "demo-weft-workers", "demo-weft-test"})
        for spec in policies.values():
            self.assertEqual(spec["policyTypes"], ["Ingress", "Egress"])
        ports = lambda rules: [[p["port"] for p in rule.get("ports", [])] for rule in rules]
        self.assertEqual(ports(policies["demo-weft-coordinator"]["egress"]), [[53, 53]])
        self.assertEqual(ports(policies["demo-weft-coordinator"]["ingress"]), [["grpc"], ["metrics"]])
        self.assertEqual(ports(policies["demo-weft-workers"]["egress"]), [[53, 53], [], ["grpc"]])
        self.assertNotIn("ingress", policies["demo-weft-test"])

    def test_tls_is_in_every_pod_and_nowhere_without(self):
        for values, found in self.each():
            tls = values.get("tls", {})
            config = yaml.safe_load(of_kind(found, "ConfigMap")[0]["data"]["coordinator.yaml"])
            told = {key: value for key, value in config.items() if key.startswith("tls_")}
            wanted = {"tls_cert": f"{TLS_FOLDER}/tls.crt", "tls_key": f"{TLS_FOLDER}/tls.key"} if tls else {}
            if tls.get("clientCertificates", bool(tls)):
                wanted["tls_client_ca"] = f"{TLS_FOLDER}/ca.crt"
            self.assertEqual(told, wanted)
            for workload, labels, spec in pods(found):
                container, party = spec["containers"][0], labels["app.kubernetes.io/component"]
                mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
                secrets = {v["name"]: v["secret"] for v in spec["volumes"]
                           if "secret" in v and v["name"] not in ("postgres", "database-tls")}
                variables = {v["name"]: v["value"] for v in container.get("env", []) if "WEFT_TLS" in v["name"]}
                if not tls:
                    self.assertEqual((secrets, variables), ({}, {}), workload["metadata"]["name"])
                    self.assertNotIn("--tls", str(container["args"]))
                    continue
                self.assertIs(mounts[TLS_FOLDER]["readOnly"], True)
                self.assertNotIn("subPath", mounts[TLS_FOLDER])  # it would never be renewed
                self.assertEqual(set(secrets), {mounts[TLS_FOLDER]["name"]})
                if party == "worker":
                    for flag, file in [("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key")]:
                        self.assertIn(f"--tls-{flag}={TLS_FOLDER}/{file}", container["args"])
                if party in ("worker", "test"):  # both run `weft`
                    self.assertEqual(variables, {"WEFT_TLS_CA": f"{TLS_FOLDER}/ca.crt", "WEFT_TLS_CERT": f"{TLS_FOLDER}/tls.crt",
                                                 "WEFT_TLS_KEY": f"{TLS_FOLDER}/tls.key"})
        secret = lambda component: next(spec for _, labels, spec in pods(objects(MATRIX["own secrets"]))
                                        if labels["app.kubernetes.io/component"] == component)["volumes"]
        for component, name in [("coordinator", "server"), ("worker", "peers"), ("test", "people")]:
            self.assertIn(name, [v["secret"]["secretName"] for v in secret(component) if "secret" in v])

    def test_tls_and_a_shared_database_go_together(self):
        for name, secrets in [("shared, own secrets", {"tls": "server", "postgres": "database"}),
                              ("shared, own authority", {"tls": "demo-weft-coordinator-tls", "database-tls": "database-tls"})]:
            with self.subTest(values=name):
                found = objects(MATRIX[name])
                workload = of_kind(found, "Deployment", "demo-weft-coordinator")[0]["spec"]
                pod = workload["template"]["spec"]
                self.assertEqual(pod["containers"][0]["args"], ["--config=/etc/weft/coordinator.yaml"])
                self.assertEqual({v["name"]: v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}, secrets)
                mounts = {m["name"]: m for m in pod["containers"][0]["volumeMounts"]}
                for volume in pod["volumes"]:
                    if "secret" in volume:  # readable by the group of the pod's user, and by no other
                        self.assertEqual(volume["secret"]["defaultMode"], 0o440)
                        self.assertIs(mounts[volume["name"]]["readOnly"], True)
                config = yaml.safe_load(of_kind(found, "ConfigMap", "demo-weft-coordinator")[0]["data"]["coordinator.yaml"])
                paths = re.findall(r"/etc/[\w./-]+", json.dumps(config))
                self.assertGreaterEqual(len(paths), 4)
                for path in paths:  # each file that the settings name is in a Secret's folder
                    self.assertIn(path.rsplit("/", 1)[0], {mounts[volume]["mountPath"] for volume in secrets})
                self.assertEqual(config["postgres"], MATRIX[name]["coordinator"]["postgres"]["connection"])
                for workload, labels, spec in pods(found):  # the database is for coordinators alone
                    if labels["app.kubernetes.io/component"] != "coordinator":
                        self.assertNotIn("database", json.dumps(spec))
                # Whoever leads is called by the same names, and coordinators have no others.
                called = {a.split("=", 1)[1] for _, _, spec in pods(found) for a in spec["containers"][0]["args"]
                          if a.startswith("--coordinator=")}
                self.assertEqual(called, {"demo-weft-coordinator.ml.svc:7733"})
                for certificate in of_kind(found, "Certificate", "demo-weft-coordinator"):
                    self.assertIn("demo-weft-coordinator.ml.svc", certificate["spec"]["dnsNames"])
                    self.assertNotIn("headless", str(certificate["spec"]["dnsNames"]))
                notes = render(MATRIX[name])["weft/templates/NOTES.txt"]
                self.assertIn("one leads", notes)
                self.assertIn("serves those who have a certificate of its authority", notes)
                egress = of_kind(found, "NetworkPolicy", "demo-weft-coordinator")[0]["spec"]["egress"]
                self.assertIn({"ports": [{"port": 6432 if "own secrets" in name else 5432, "protocol": "TCP"}]}, egress)

    def test_certificates_are_for_the_names_by_which_pods_are_called(self):
        found = objects(MATRIX["own authority"])
        certificates = {o["metadata"]["name"]: o["spec"] for o in of_kind(found, "Certificate")}
        self.assertEqual(set(certificates), {f"demo-weft-{name}" for name in ["authority", "coordinator", "workers", "client"]})
        for _, labels, spec in pods(found):
            for container in spec["containers"]:
                called = [a.split("=", 1)[1] for a in container.get("args", []) if a.startswith("--coordinator=")]
                called += [v["value"] for v in container.get("env", []) if v["name"] == "WEFT_ADDRESS"]
                for address in called:
                    self.assertIn(address.rsplit(":", 1)[0], certificates["demo-weft-coordinator"]["dnsNames"])
                for argument in container.get("args", []):
                    if argument.startswith("--advertise="):
                        host = argument.split("=", 1)[1].rsplit(":", 1)[0]
                        self.assertIn("*." + host.split(".", 1)[1], certificates["demo-weft-workers"]["dnsNames"])
        usages = {name.removeprefix("demo-weft-"): spec.get("usages") for name, spec in certificates.items()}
        self.assertEqual(usages, {"authority": None, "coordinator": ["server auth"],
                                  "workers": ["server auth", "client auth"], "client": ["client auth"]})
        # All from one authority, whose key outlives its certificate; the issuer of a company takes its place.
        self.assertEqual(certificates["demo-weft-authority"]["privateKey"]["rotationPolicy"], "Never")
        issuers = {o["metadata"]["name"]: o["spec"] for o in of_kind(found, "Issuer")}
        self.assertEqual(issuers["demo-weft-authority"], {"ca": {"secretName": certificates["demo-weft-authority"]["secretName"]}})
        self.assertEqual({spec["issuerRef"]["name"] for name, spec in certificates.items()},
                         {"demo-weft-authority", "demo-weft-self-signed"})
        self.assertEqual(set(issuers), {"demo-weft-authority", "demo-weft-self-signed"})
        everything = objects(MATRIX["everything"])
        self.assertEqual(of_kind(everything, "Issuer"), [])
        for certificate in of_kind(everything, "Certificate"):
            self.assertEqual(certificate["spec"]["issuerRef"], {"name": "company", "kind": "ClusterIssuer", "group": "cert-manager.io"})
        server = of_kind(everything, "Certificate", "weft-coordinator")[0]["spec"]
        self.assertIn("weft.example", server["dnsNames"])
        self.assertEqual(server["ipAddresses"], ["127.0.0.1", "10.0.0.7"])
        self.assertEqual(of_kind(objects(MATRIX["own secrets"]), "Certificate"), [])

    def test_probes_and_metrics_are_the_same_with_tls(self):
        def seen(values):
            found = objects({**values, "metrics": MATRIX["everything"]["metrics"]})
            probes = [{key: container[key] for key in container if key.endswith("Probe")}
                      for _, _, spec in pods(found) for container in spec["containers"]]
            return probes, [o["spec"] for kind in ["ServiceMonitor", "PodMonitor", "NetworkPolicy", "Service"] for o in of_kind(found, kind)]
        self.assertTrue(any(seen({})[0]))
        self.assertEqual(seen({}), seen(MATRIX["own authority"]))

    def test_the_notes_say_what_is_so(self):
        notes = {name: render(values)["weft/templates/NOTES.txt"] for name, values in MATRIX.items()}
        self.assertIn("The API is not encrypted", notes["defaults"])
        self.assertNotIn("WEFT_TLS_CA", notes["defaults"])
        self.assertIn("get secret demo-weft-client-tls -o jsonpath", notes["own authority"])
        self.assertIn("serves those who have a certificate of its authority", notes["own authority"])
        self.assertIn("encrypted, but asks nobody who they are", notes["own secrets"])
        notes = render(MATRIX["pools"])["weft/templates/NOTES.txt"]
        self.assertIn("h100: 2 of device gpu", notes)
        self.assertIn("its TPU chips are reserved, but not used yet", notes)
        self.assertIn(f"helm test demo -n {NAMESPACE}", notes)
        self.assertIn("none: jobs will wait", render(MATRIX["bare"])["weft/templates/NOTES.txt"])


class Refused(unittest.TestCase):
    def refuses(self, values, *texts, name="demo"):
        with self.assertRaises(helm_python.HelmError) as raised:
            objects(values, name)
        for text in texts:
            self.assertIn(text, str(raised.exception))

    def test_keys_that_do_not_exist(self):
        for values, where in [
            ({"corodinator": {}}, "corodinator"),
            ({"coordinator": {"replcas": 1}}, "replcas"),
            ({"coordinator": {"postgres": {"password": "hush"}}}, "password"),
            ({"coordinator": {"config": {"heartbeat_timout": "5s"}}}, "heartbeat_timout"),
            ({"workerPools": [{"name": "a", "device": "cpu", "replicas": 1, "gpu": 8}]}, "gpu"),
            ({"tls": {"enable": True}}, "enable"),
            ({"tls": {"certManager": {"issuer": "company"}}}, "issuer"),
            ({"coordinator": {"config": {"tls_cert": "/own.crt"}}}, "tls_cert"),
            ({"metrics": {"serviceMonitor": {"enabled": True, "labels": {}}}}, "labels"),
        ]:
            with self.subTest(where):
                self.refuses(values, where)

    def test_values_that_are_none(self):
        pool = {"name": "a", "device": "cpu", "replicas": 1}
        for values, where in [
            ({"coordinator": {"replicas": -1}}, "replicas"),
            ({"coordinator": {"postgres": {"port": "db"}}}, "port"),
            ({"coordinator": {"config": {"heartbeat_timeout": "5"}}}, "heartbeat_timeout"),
            ({"image": {"digests": {"coordinator": "latest"}}}, "digests"),
            ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
            ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser"),
            ({"workerPools": [{**pool, "device": "abacus"}]}, "device"),
            ({"workerPools": [{**pool, "name": "A_b"}]}, "name"),
            ({"workerPools": [{"name": "a", "device": "cpu"}]}, "replicas"),
            ({"workerPools": [{**pool, "saveTime": 0}]}, "saveTime"),
            ({"workerPools": [{**pool, "device": "tpu"}]}, "tpu"),
            ({"workerPools": [{**pool, "gpus": 2}]}, "gpus"),
            ({"workerPools": [{**pool, "device": "tpu", "tpu": {"accelerator": "v5e", "topology": "big", "chipsPerHost": 4}}]}, "topology"),
            ({"storage": {"checkpoints": {"size": "much"}}}, "size"),
            ({"tls": {"certManager": {"duration": "90d"}}}, "duration"),
            ({"storage": {"checkpoints": {"accessMode": "ReadWriteNever"}}}, "accessMode"),
        ]:
            with self.subTest(where):
                self.refuses(values, where)

    def test_values_that_do_not_fit_together(self):
        pool = {"name": "a", "device": "cpu", "replicas": 1}
        self.refuses({"tls": {"enabled": True}}, "name a Secret in tls.secrets.", "tls.certManager.enabled")
        self.refuses({"tls": {"enabled": True, "secrets": {"coordinator": "a", "client": "b"}}}, "tls.secrets.workers")
        shared = {"connection": "host=db"}
        self.refuses({"coordinator": {"replicas": 2}}, "2 coordinators need a database that they share")
        self.refuses({"coordinator": {"postgres": {"passwordSecret": "s"}}}, "is for coordinator.postgres.connection")
        self.refuses({"coordinator": {"postgres": shared, "volume": {"existingClaim": "c"}}}, "have no volume")
        self.refuses({"workerPools": [pool, pool]}, "two pools named \"a\"")
        self.refuses({"workerPools": [{**pool, "name": "coordinator"}]}, "a pool named \"coordinator\"")
        self.refuses({"workerPools": [{**pool, "name": "a-long-pool-of-cpus"}]}, "at most 35 characters", name="a-long-release-name")


class Documented(unittest.TestCase):
    def test_the_schema_knows_the_keys_that_are_documented_and_no_others(self):
        sys.path.insert(0, str(ROOT / "helm"))
        import generate_readme  # noqa: E402
        documented = {row[0] for row in generate_readme.documented_values((CHART / "values.yaml").read_text())}
        schema = json.loads((CHART / "values.schema.json").read_text())
        known = set()

        def walk(node, path):
            for name, value in node.get("properties", {}).items():
                here = f"{path}.{name}" if path else name
                if here in documented or "properties" not in value:
                    known.add(here)
                else:
                    walk(value, here)
        walk(schema, "")
        self.assertEqual(documented, known)

    def test_every_documented_key_is_a_value(self):
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        sys.path.insert(0, str(ROOT / "helm"))
        import generate_readme  # noqa: E402
        for path, _, _ in generate_readme.documented_values((CHART / "values.yaml").read_text()):
            node = values
            for part in path.split("."):
                self.assertIn(part, node, path)
                node = node[part]

    def test_every_alert_is_explained(self):
        told = re.findall(r"^### (Weft\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.M)
        rules = [rule for path in (CHART / "rules").glob("*.yaml")
                 for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"] if "alert" in rule]
        if rules:
            self.assertEqual(sorted(rule["alert"] for rule in rules), sorted(told))
        for rule in rules:
            self.assertEqual(rule["annotations"]["runbook_url"].split("#")[-1], rule["alert"].lower())

    def test_the_features_are_tested_where_the_page_says(self):
        page = (ROOT / "docs" / "operations.md").read_text()
        table = re.search(r"^## Features of the chart.*?(?=^## )", page, re.M | re.S).group()
        named = set()
        for feature, proof in re.findall(r"^\| (.+) \| (.+) \|$", table, re.M)[1:]:
            file, text = None, ""
            for word in re.findall(r"`([^`]+)`", proof):
                if "/" in word or word.endswith(".py"):
                    file = ROOT / word if "/" in word else ROOT / "tests" / "helm" / word
                    self.assertTrue(file.exists(), f"{feature}: there is no {word}")
                    text = file.read_text() if file.is_file() else ""
                    continue
                suite, _, test = word.partition(".")
                is_there = re.search(rf"def {word}\(|class {word}\(|TEST(_F)?\({suite}, {test}\)", text)
                self.assertTrue(is_there, f"{feature}: no {word} in {file}")
                named.add(word)
            self.assertIsNotNone(file, feature)
        written = {name for folder in ["helm", "deploy", "monitoring"] for path in (ROOT / "tests" / folder).glob("*_test.py")
                   for name in re.findall(r"def (test_\w+)\(", path.read_text())}
        self.assertEqual(written - named, set(), "tests that no feature names")

    def test_the_readme_is_up_to_date(self):
        subprocess.run([ROOT / "helm" / "generate_readme.py", "--check"], check=True)


if __name__ == "__main__":
    unittest.main()
