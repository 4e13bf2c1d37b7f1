#!/usr/bin/env python3
"""Jobs train, fail and recover on a real cluster, and a real Prometheus watches: every query of every dashboard and
every recording rule must return data, and every alert must fire when its time has come.

    tests/monitoring/live_test.py PROGRAMS                  PROGRAMS: a folder such as build/dev/bin
    tests/monitoring/live_test.py PROGRAMS --pictures DIR   also draws what each panel has seen, as PNG files
"""

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import expressions
import yaml
from live_cluster import LiveCluster, Prometheus, wait_for

# Alerts wait for minutes and hours; here they wait for seconds: (alert, what stands in it, what is tested).
HASTE = [
    ("WeftJobStalled", "> 600", "> 3"),
    ("WeftCheckpointOld", "> 7200", "> 3"),
    ("WeftQueueWaitsLong", "> 14400", "> 3"),
    ("WeftCoordinatorSlow", "[5m]", "[6s]"),
    ("WeftUpdatesSkipped", "[15m]", "[10s]"),
    ("WeftStateNotDurable", "[5m]", "[20s]"),
]


class Problems:
    def __init__(self):
        self.lines = []

    def add(self, line):
        print(f"PROBLEM: {line}", flush=True)
        self.lines.append(line)


def hasty_rules(folder):
    """Copies of the rule files whose alerts fire within seconds; otherwise as they are."""
    copies = []
    for path in expressions.rule_files():
        content = yaml.safe_load(path.read_text())
        for group in content["groups"]:
            group["interval"] = "1s"
            for rule in group["rules"]:
                rule.pop("for", None)
                rule["expr"] = rule["expr"].replace("[1m]", "[10s]").replace("[5m]", "[20s]") \
                    if "record" in rule else rule["expr"]
                for alert, shipped, tested in HASTE:
                    if rule.get("alert") == alert:
                        if shipped not in rule["expr"]:
                            raise AssertionError(f"{alert} does not say {shipped} any more")
                        rule["expr"] = rule["expr"].replace(shipped, tested)
        copies.append(folder / path.name)
        copies[-1].write_text(yaml.safe_dump(content))
    return copies


class Scenario:
    def __init__(self, cluster, problems):
        self.cluster = cluster
        self.problems = problems
        self.fired = set()
        self.begin = time.monotonic()

    def say(self, text):
        print(f"{time.monotonic() - self.begin:5.1f} s  {text}", flush=True)

    def start(self):
        self.cluster.start_coordinator()
        workers = [self.cluster.start_worker(name) for name in ("w1", "w2", "w3")]
        rules = hasty_rules(self.cluster.folder)
        self.prometheus = Prometheus(self.cluster, [self.cluster.coordinator_metrics, *workers], rules)
        self.say("coordinator, three workers and Prometheus serve")

    def expect(self, *alerts, seconds=60):
        for alert in alerts:
            try:
                wait_for(f"{alert} to fire", lambda alert=alert: alert in self.prometheus.firing(), seconds)
                self.fired.add(alert)
                self.say(f"{alert} fires")
            except TimeoutError as error:
                self.problems.add(str(error))

    def await_job(self, what, condition, seconds=120):
        return wait_for(what, lambda: condition(self.cluster.job(self.pair)), seconds)

    def submit(self):
        cluster = self.cluster
        cluster.weft("create-queue", "batch", "--max-workers", "8")
        self.pair = cluster.submit("pair", 2)
        # A rate of 1e30 makes weights, and so gradients, that are not finite.
        self.wild = cluster.submit("wild", 1, training={"learning_rate": {"peak": 1e30}})
        cluster.submit("big", 8, queue="batch")
        assert cluster.weft("get", "jobs", "nobody-9").returncode == 3, "NOT_FOUND is seen as an error of an RPC"
        self.await_job("the first checkpoints", lambda job: int(job.get("checkpoint_step", 0)) >= 20)
        self.expect("WeftQueueWaitsLong", "WeftUpdatesSkipped")
        cluster.weft("cancel", self.wild)
        # A wait that ends while Prometheus looks on: the first ones may be over before it has begun. And numbers that
        # jobs on a text do not have: the perplexity of tokens, the density of graphs.
        late = cluster.submit("late", 1, data={"induction_heads": {}}, training={"sequence_length": 64},
                              model={"mixers": [{"sbm": {"heads": 2}}, {"softmax": {"heads": 2}}]})
        for metric in ['weft_job_perplexity{split="validation"}', "weft_job_graph_density_ratio"]:
            wait_for(metric, lambda metric=metric: self.prometheus.now(metric), 60)
        cluster.weft("cancel", late)

    def let_a_certificate_end(self):
        self.cluster.issue_certificate("w2", days=6)
        self.expect("WeftCertificateExpires")
        self.cluster.issue_certificate("w2")
        wait_for("the renewal to be seen", lambda: "WeftCertificateExpires" not in self.prometheus.firing(), 30)

    def stand_still(self):
        rank = self.cluster.ranks_of(self.pair)[1]
        os.kill(rank, signal.SIGSTOP)
        self.expect("WeftJobStalled", "WeftCheckpointOld")
        os.kill(rank, signal.SIGCONT)

    def recover(self, times):
        for _ in range(times):
            generation = int(self.cluster.job(self.pair)["generation"])
            ranks = wait_for("two ranks", lambda: len(ranks := self.cluster.ranks_of(self.pair)) == 2 and ranks, 30)
            os.kill(ranks[1], signal.SIGKILL)
            self.await_job("the next generation", lambda job, g=generation:
                           int(job["generation"]) > g and job["state"] in ("RUNNING", "STATE_RUNNING"))
        self.say(f"recovered {times} times")
        self.expect("WeftJobKeepsRecovering")

    def stop_coordinator_for_a_while(self):
        coordinator = self.cluster.processes["coordinator"]
        coordinator.send_signal(signal.SIGSTOP)
        missed = f'count_over_time((up{{instance="{self.cluster.coordinator_metrics}"}} == 0)[10s:1s]) >= 2'
        wait_for("missed scrapes", lambda: self.prometheus.now(missed), 20)
        coordinator.send_signal(signal.SIGCONT)
        self.expect("WeftCoordinatorSlow")

    def fill_the_disk(self):
        """Files that may not grow look like a full disk to the store."""
        pid = self.cluster.processes["coordinator"].pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        self.cluster.weft("create-queue", "never")
        self.expect("WeftStateNotDurable")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        wait_for("commits to succeed again", lambda: self.cluster.weft("create-queue", "again").returncode == 0, 30)

    def lose_a_worker(self):
        self.cluster.processes["w3"].kill()
        self.expect("WeftWorkersLost")

    def lose_the_coordinator(self):
        self.cluster.processes["coordinator"].kill()
        self.expect("WeftCoordinatorDown", "WeftWorkerDisconnected")
        self.cluster.processes["coordinator"].wait()
        self.cluster.start_coordinator()
        wait_for("the alert to end", lambda: "WeftCoordinatorDown" not in self.prometheus.firing(), 30)
        self.await_job("the job to be adopted", lambda job: job["state"] in ("RUNNING", "STATE_RUNNING"))
        self.say("the coordinator is back")


def has_value(series):
    return any(value != "NaN" for one in series for _, value in one["values"])


def check_expressions(prometheus, problems):
    wanted = []
    for board in expressions.dashboards():
        for panel in expressions.panels(board):
            wanted += [(f"{board['uid']}: {panel['title']}", target["expr"]) for target in panel["targets"]]
        wanted += [(f"{board['uid']}: annotation {a['name']}", a["expr"]) for a in board["annotations"]["list"]]
        for variable in board["templating"]["list"]:
            query = variable.get("definition", "")
            if query:
                wanted.append((f"{board['uid']}: variable {variable['name']}",
                               query.removeprefix("label_values(").rsplit(",", 1)[0]))
    for path in expressions.rule_files():
        wanted += [(f"rule {rule['record']}", rule["record"]) for rule in expressions.rules(path) if "record" in rule]
    for place, expression in wanted:
        try:
            if not has_value(prometheus.history(expressions.filled(expression))):
                problems.add(f"{place} has no data: {expression}")
        except ValueError as error:
            problems.add(f"{place} does not parse: {error}")
    return len(wanted)


def check_names(prometheus, problems):
    for series in prometheus.now('{__name__=~"weft_.*", exported_job!=""}'):
        problems.add(f"{series['metric']['__name__']} has a label that Prometheus renames")


def check_alerts(fired, problems):
    for path in expressions.rule_files():
        for rule in expressions.rules(path):
            if "alert" in rule and rule["alert"] not in fired:
                problems.add(f"{rule['alert']} has not fired")


def run(programs, folder, pictures):
    problems = Problems()
    with LiveCluster(programs, folder) as cluster:
        scenario = Scenario(cluster, problems)
        scenario.start()
        scenario.submit()
        scenario.let_a_certificate_end()
        scenario.stand_still()
        scenario.recover(4)
        scenario.stop_coordinator_for_a_while()
        scenario.fill_the_disk()
        scenario.lose_a_worker()
        scenario.lose_the_coordinator()
        count = check_expressions(scenario.prometheus, problems)
        check_names(scenario.prometheus, problems)
        check_alerts(scenario.fired, problems)
        scenario.say(f"{count} expressions, {len(scenario.fired)} alerts, {len(problems.lines)} problem(s)")
        if pictures:
            import draw_dashboards
            draw_dashboards.draw_all(scenario.prometheus, Path(pictures))
            scenario.say(f"pictures are in {pictures}")
    return problems.lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs")
    parser.add_argument("--pictures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weft-watch-") as folder:
        try:
            problems = run(arguments.programs, Path(folder), arguments.pictures)
        except BaseException:
            for log in sorted(Path(folder).glob("*.log")):
                print(f"---- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
            raise
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
