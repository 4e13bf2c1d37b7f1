"""What the chart tells the programs, told to the real programs: flags, configuration, hooks, the job of helm test."""

import json
import os
import re
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

from certificates import Authority
from chart import CHART, MATRIX, objects, of_kind, pods
from postgres import PostgresServer
from programs import Cluster, await_that, programs, run


def flags_of(program):
    return set(re.findall(r"--[a-z][a-z-]*", run(program, "--help").stdout))


def container_of(found, component):
    for _, labels, spec in pods(found):
        if labels["app.kubernetes.io/component"] == component:
            return spec["containers"][0]
    raise AssertionError(f"no {component}")


class Settings(unittest.TestCase):
    def test_the_schema_has_the_coordinators_settings(self):
        printed = yaml.safe_load(run("weft-coordinator", "--state-dir=/s", "--print-config").stdout)
        schema = json.loads((CHART / "values.schema.json").read_text())
        known = set(schema["properties"]["coordinator"]["properties"]["config"]["properties"])
        chart_sets = set(yaml.safe_load(of_kind(objects(MATRIX["own authority"]), "ConfigMap")[0]["data"]["coordinator.yaml"]))
        self.assertEqual(known | chart_sets, set(printed))

    def test_the_coordinator_takes_the_configuration(self):
        for name, values in MATRIX.items():
            with self.subTest(name), tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                text = of_kind(objects(values), "ConfigMap")[0]["data"]["coordinator.yaml"]
                file.write(text)
                file.flush()
                result = run("weft-coordinator", f"--config={file.name}", "--print-config")
                self.assertEqual(result.returncode, 0, result.stderr)
                printed = yaml.safe_load(result.stdout)
                for setting, value in values.get("coordinator", {}).get("config", {}).items():
                    self.assertEqual(printed[setting], value)

    def test_every_flag_exists(self):
        known = {"coordinator": flags_of("weft-coordinator"), "worker": flags_of("weft-worker")}
        for name, values in MATRIX.items():
            for _, labels, spec in pods(objects(values)):
                component = labels["app.kubernetes.io/component"]
                for argument in spec["containers"][0]["args"] if component in known else []:
                    with self.subTest(values=name, argument=argument):
                        self.assertIn(argument.split("=")[0], known[component])


class Hooks(unittest.TestCase):
    """A coordinator and a worker with the arguments of their pods, but for folders and ports."""

    POD = "demo-weft-cpu-0"
    VALUES = {"workerPools": [{"name": "cpu", "device": "cpu", "replicas": 1, "saveTime": 20}]}

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        self.found = objects(self.VALUES)
        self.cluster = Cluster(self.folder)
        self.addCleanup(self.cluster.close)
        self.make_certificates()
        config = yaml.safe_load(of_kind(self.found, "ConfigMap")[0]["data"]["coordinator.yaml"])
        for setting, value in config.items():
            config[setting] = self.here(value, "coordinator")
        config.update(self.own_settings())
        (self.folder / "coordinator.yaml").write_text(yaml.safe_dump(config))
        self.cluster.start_coordinator(self.folder / "coordinator", f"--config={self.folder / 'coordinator.yaml'}")
        self.environment = {**os.environ, "WEFT_ADDRESS": self.cluster.address, "POD_NAME": self.POD,
                            "PATH": f"{programs()}:{os.environ['PATH']}"}
        self.cluster.environment = self.tls_variables("test", "client")
        self.start_worker()
        self.job = yaml.safe_load(of_kind(self.found, "ConfigMap", "demo-weft-test")[0]["data"]["job.yaml"])

    def make_certificates(self):
        pass

    def own_settings(self):
        return {"checkpoint_root": str(self.folder / "checkpoints")}

    def here(self, value, party):
        """A path in the folder of a pod's Secret, as a path of this test."""
        return str(value).replace("/etc/weft-tls", str(self.folder / f"demo-weft-{party}"))

    def tls_variables(self, component, party):
        return {variable["name"]: self.here(variable["value"], party)
                for variable in container_of(self.found, component)["env"] if variable["name"].startswith("WEFT_TLS_")}

    def start_worker(self):
        replaced = {"--listen": "127.0.0.1:0", "--data-root": str(self.folder)}
        arguments = []
        for argument in container_of(self.found, "worker")["args"]:
            flag, value = argument.split("=", 1)
            if flag not in ("--coordinator", "--name", "--state-dir", "--metrics-listen", "--advertise"):
                arguments.append(f"{flag}={self.here(replaced.get(flag, value), 'workers')}")
        self.cluster.start_worker(self.POD, *arguments)

    def helm_test(self, job):
        (self.folder / "job.yaml").write_text(yaml.safe_dump(job))
        container = container_of(self.found, "test")
        script = container["args"][0].replace("/etc/weft-test", str(self.folder))
        return subprocess.run([*container["command"], script], env={**self.environment, **self.tls_variables("test", "client")},
                              capture_output=True, text=True, timeout=100)

    def test_helm_test_submits_a_job_that_succeeds(self):
        result = self.helm_test(self.job)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("SUCCEEDED", result.stdout)

    def test_helm_test_fails_with_its_job(self):
        self.job["data"] = {"text": {"paths": ["/no/such/file"]}}
        result = self.helm_test(self.job)
        self.assertEqual(result.returncode, 10, result.stdout + result.stderr)

    def test_a_pod_that_ends_has_saved_its_job_and_its_successor_goes_on(self):
        self.job["training"]["steps"] = 1000000
        (self.folder / "job.yaml").write_text(yaml.safe_dump(self.job))
        name = self.cluster.submit(self.folder / "job.yaml")
        await_that(lambda: self.cluster.step(name) > 20)
        hook = container_of(self.found, "worker")["lifecycle"]["preStop"]["exec"]["command"]
        result = subprocess.run(hook, env={**self.environment, **self.tls_variables("worker", "workers")},
                                capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        saved = self.cluster.step(name)
        self.assertEqual(self.cluster.kill(self.POD, signal.SIGTERM), 0)
        self.start_worker()  # READY, though the one before it was drained
        await_that(lambda: self.cluster.step(name) > saved)


class HooksWithTls(Hooks):
    """The same with certificates for the names, and for the uses, that cert-manager would be asked for."""

    VALUES = {**Hooks.VALUES, **MATRIX["own authority"]}

    def make_certificates(self):
        authority = Authority(self.folder)
        uses = {"server auth": "serverAuth", "client auth": "clientAuth"}
        for certificate in of_kind(self.found, "Certificate"):
            spec = certificate["spec"]
            if spec.get("isCA"):
                continue
            names = [f"DNS:{name}" for name in spec.get("dnsNames", [])] + [f"IP:{a}" for a in spec.get("ipAddresses", [])]
            authority.issue(self.folder / certificate["metadata"]["name"], spec["commonName"], names,
                            [uses[usage] for usage in spec["usages"]])

    def test_strangers_are_refused(self):
        refused = run("weft", "get", "workers", WEFT_ADDRESS=self.cluster.address)
        self.assertEqual(refused.returncode, 6)
        self.assertIn("it speaks TLS: tls_ca is needed", refused.stderr)


class HooksWithTlsOnPostgres(HooksWithTls):
    """The same where the jobs are in a database, which asks for a certificate as the values have it."""

    VALUES = {**Hooks.VALUES, **MATRIX["shared, own authority"]}

    def own_settings(self):
        folder = self.folder / "database"
        folder.mkdir()
        authority = Authority(folder)
        authority.issue(folder / "server", "server", ["DNS:localhost"], ["serverAuth"])
        authority.issue(folder / "client", "weft", [], ["clientAuth"])
        server = PostgresServer(tls=folder / "server")
        self.addCleanup(server.close)
        told = yaml.safe_load(of_kind(self.found, "ConfigMap")[0]["data"]["coordinator.yaml"])["postgres"]
        how = told.split("user=weft ")[1].replace("/etc/weft-db", str(folder / "client"))
        self.assertIn("sslmode=verify-full", how)
        return {**super().own_settings(), "log_root": str(self.folder / "logs"), "postgres": f"{server.target} {how}"}


if __name__ == "__main__":
    unittest.main()
