"""deploy/compose.yaml by the real Docker Compose, as far as that goes without an engine, and against what it names."""

import importlib.util
import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
COMPOSE = Path(importlib.util.find_spec("compose").origin).with_name("docker-compose")


def compose(*arguments, **options):
    return subprocess.run([COMPOSE, *arguments], capture_output=True, text=True, **options)


def flags_of(program):
    shown = subprocess.run([Path(os.environ["WEFT_BIN_DIR"]) / program, "--help"], capture_output=True, text=True)
    return set(re.findall(r"--[a-z][a-z-]*", shown.stdout))


class Compose(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        result = compose("--file", FILE, "config", "--format=json")
        assert result.returncode == 0, result.stderr
        cls.services = json.loads(result.stdout)["services"]

    def test_compose_refuses_what_it_does_not_know(self):
        text = FILE.read_text().replace("shm_size:", "shm_sise:")
        result = compose("--file", "-", "config", input=text, cwd=FILE.parent)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("shm_sise", result.stderr)

    def test_it_is_the_cluster_that_it_says(self):
        self.assertEqual(set(self.services), {"coordinator", "worker-1", "worker-2", "prometheus", "grafana"})
        for name, service in self.services.items():
            self.assertIs(service["read_only"], True, name)
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            for port in service.get("ports", []):
                self.assertEqual(port["host_ip"], "127.0.0.1", name)

    def test_folders_and_files_exist(self):
        for name, service in self.services.items():
            for volume in service["volumes"]:
                if volume["type"] == "bind":
                    self.assertTrue(Path(volume["source"]).exists(), f"{name}: {volume['source']}")
            if "build" in service:
                dockerfile = Path(service["build"]["context"]) / service["build"]["dockerfile"]
                self.assertIn(f" AS {service['build']['target']}\n", dockerfile.read_text())

    def test_flags_and_addresses_exist(self):
        for name, service in self.services.items():
            if not service["image"].startswith("weft/"):
                continue
            program, *arguments = service["command"]
            known = flags_of(program)
            for argument in arguments:
                flag, value = argument.split("=", 1)
                self.assertIn(flag, known, name)
                if flag in ("--coordinator", "--advertise"):
                    host, port = value.split(":")
                    image = self.services[host]["build"]["target"]
                    exposed = re.search(rf" AS {image}\n.*?EXPOSE ([0-9 ]+)", (ROOT / "deploy/docker/Dockerfile").read_text(), re.S)
                    self.assertIn(port, exposed.group(1).split(), name)
            self.assertEqual(self.services["coordinator"]["ports"][0]["target"], 7733)

    def test_prometheus_scrapes_the_programs(self):
        config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yaml").read_text())
        targets = [t for job in config["scrape_configs"] for c in job["static_configs"] for t in c["targets"]]
        self.assertEqual(sorted(targets), ["coordinator:9733", "worker-1:9733", "worker-2:9733"])

    def test_prometheus_takes_its_configuration_and_rules(self):
        service = self.services["prometheus"]
        known = subprocess.run(["prometheus", "--help"], capture_output=True, text=True)
        for argument in service["command"]:
            self.assertIn(argument.split("=", 1)[0], known.stdout + known.stderr)
        config = next(a for a in service["command"] if a.startswith("--config.file=")).split("=", 1)[1]
        mounted = {v["target"]: Path(v["source"]) for v in service["volumes"] if v["type"] == "bind"}
        self.assertIn(config, mounted)
        with tempfile.TemporaryDirectory() as root:  # what the container sees
            for target, source in mounted.items():
                seen = Path(root + target)
                seen.parent.mkdir(parents=True, exist_ok=True)
                seen.symlink_to(source)
            moved = Path(root) / "prometheus.yaml"
            moved.write_text((Path(root + config)).read_text().replace("/etc/prometheus", f"{root}/etc/prometheus"))
            checked = subprocess.run(["promtool", "check", "config", moved], capture_output=True, text=True)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
            checked_rules = re.findall(r"Checking \S+/rules/(\S+)\n *SUCCESS: (\d+) rules found", checked.stdout)
            rules = {path.name: len(re.findall(r"^ *- (?:alert|record):", path.read_text(), re.M))
                     for path in (ROOT / "helm/weft/rules").glob("*.yaml")}
            self.assertEqual({name: int(count) for name, count in checked_rules}, rules)

    def test_grafana_finds_prometheus_and_the_dashboards(self):
        mounted = {v["target"]: Path(v["source"]) for v in self.services["grafana"]["volumes"] if v["type"] == "bind"}
        provisioned = {kind: yaml.safe_load(mounted[f"/etc/grafana/provisioning/{kind}/weft.yaml"].read_text())
                       for kind in ["datasources", "dashboards"]}
        [source] = provisioned["datasources"]["datasources"]
        url = urlsplit(source["url"])
        self.assertEqual((source["type"], source["isDefault"]), ("prometheus", True))
        self.assertIn(url.port, [port["target"] for port in self.services[url.hostname]["ports"]])
        self.assertTrue(self.services[url.hostname]["image"].startswith("prom/prometheus:"))
        [provider] = provisioned["dashboards"]["providers"]
        self.assertIs(provider["options"]["foldersFromFilesStructure"], True)
        folder = f"{provider['options']['path']}/Weft"  # the folder's name in Grafana
        boards = [json.loads(path.read_text()) for path in mounted[folder].glob("*.json")]
        self.assertEqual(len({board["uid"] for board in boards}), 4)
        for board in boards:  # takes the data source that there is
            [variable] = [v for v in board["templating"]["list"] if v["type"] == "datasource"]
            self.assertEqual(variable["query"], source["type"])

    def test_a_worker_has_time_to_save(self):
        for name in ["worker-1", "worker-2"]:
            service = self.services[name]
            grace = next(a for a in service["command"] if a.startswith("--grace=")).split("=")[1]
            self.assertEqual(grace, "120s")
            self.assertIn("--save-timeout=120s", self.services["coordinator"]["command"])
            self.assertEqual(service["stop_grace_period"], "2m30s")


if __name__ == "__main__":
    unittest.main()
