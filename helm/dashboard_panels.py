"""What the dashboards show: generate_dashboards.py makes Grafana's JSON of it, tests/monitoring evaluates it.

A panel is graph(), stat() or table() with a title, a unit of Grafana's, one sentence about what is seen, and queries
(expression, legend). Expressions use only series that the programs serve or helm/weft/rules records.
"""

from dataclasses import dataclass


@dataclass
class Query:
    expression: str
    legend: str
    unit: str = ""  # of a table's column


@dataclass
class Panel:
    kind: str
    title: str
    unit: str
    about: str
    queries: list
    width: int
    height: int
    stacked: bool = False
    logarithmic: bool = False
    lowest: float | None = None
    highest: float | None = None
    named: bool = False  # a stat with a value for each series
    limits: tuple = ()  # (value from which, color): turns a number yellow or red
    join: str = ""  # of a table: the label that its columns share


@dataclass
class Section:
    title: str


@dataclass
class Variable:
    name: str
    label: str = ""
    query: str = ""
    about: str = ""


@dataclass
class Annotation:
    name: str
    color: str
    expression: str  # its value is the time, in milliseconds
    title: str


@dataclass
class Dashboard:
    uid: str
    title: str
    about: str
    variables: list
    items: list
    annotations: list


def graph(title, unit, about, *queries, width=8, **options):
    return Panel("timeseries", title, unit, about, [Query(*query) for query in queries], width, 8, **options)


def stat(title, unit, about, *queries, width=4, **options):
    return Panel("stat", title, unit, about, [Query(*query) for query in queries], width, 4, **options)


def table(title, about, join, *queries, width=24):
    return Panel("table", title, "none", about, [Query(*query) for query in queries], width, 8, join=join)


def quantile(share, metric, by, selector="", window="$__rate_interval"):
    """A quantile of a histogram over the last interval; over a longer window for what happens seldom."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{selector}[{window}])))"


DATASOURCE = Variable("datasource")
QUEUE = Variable("queue", "Queue", "label_values(weft_jobs, queue)", "Jobs of these queues.")
JOB = Variable("job", "Job", 'label_values(weft_job_info{queue=~"$queue"}, job_name)',
               "Jobs that were placed and have not ended in the time that is shown.")
RANK = Variable("rank", "Rank", 'label_values(weft_rank_step{job_name=~"$job"}, rank)', "Ranks of these jobs.")
WORKER = Variable("worker", "Worker", "label_values(weft_worker_info, worker)", "Workers that answer Prometheus.")
DEVICE = Variable("device", "Device", "label_values(weft_device_memory_bytes, device)",
                  "Devices by their number on the worker.")

# Jobs of the chosen queues: what a series of a job is multiplied with.
IN_QUEUE = '* on (job_name) group_left (queue) weft_job_info{queue=~"$queue"}'
J = '{job_name=~"$job"}'
JR = '{job_name=~"$job", rank=~"$rank"}'
# Gives a series of a worker the worker's name.
NAMED = '* on (instance) group_left (worker) weft_worker_info{worker=~"$worker"}'

JOB_EVENTS = [
    Annotation("Recoveries", "red", f"weft_job_last_recovery_timestamp_seconds{J} * 1000",
               "{{job_name}} lost its gang and recovers"),
    Annotation("Checkpoints", "green", f"weft_checkpoint_last_success_timestamp_seconds{J} * 1000",
               "{{job_name}} saved a checkpoint"),
]
ALL_EVENTS = [
    Annotation("Recoveries", "red", "weft_job_last_recovery_timestamp_seconds * 1000",
               "{{job_name}} lost its gang and recovers"),
    Annotation("Checkpoints", "green", "weft_checkpoint_last_success_timestamp_seconds * 1000",
               "{{job_name}} saved a checkpoint"),
]

OVERVIEW = Dashboard(
    "weft-overview", "Weft / Overview", "Queues, workers, and what their time is used for.",
    [DATASOURCE, QUEUE],
    [
        Section("Now"),
        stat("Coordinator", "none", "Coordinators that answer Prometheus; 0 means that nothing new starts.",
             ('sum(weft_build_info{program="weft-coordinator"}) or vector(0)', "up"),
             limits=((0, "red"), (1, "green"))),
        stat("Firing alerts", "none", "Alerts of Weft that fire now.",
             ('count(ALERTS{alertname=~"Weft.*", alertstate="firing"}) or vector(0)', "firing"),
             limits=((1, "red"),)),
        stat("Running jobs", "none", "Jobs that take steps now.",
             ('sum(weft_jobs{state="RUNNING", queue=~"$queue"})', "running")),
        stat("Waiting jobs", "none", "Jobs that wait for workers or for a back-off.",
             ('sum(weft_jobs{state="QUEUED", queue=~"$queue"})', "waiting")),
        stat("Lost workers", "none", "Workers that the coordinator has given up and not forgotten yet.",
             ('sum(weft_workers{state="LOST"})', "lost"), limits=((1, "red"),)),
        stat("Goodput", "percentunit", "Share of all jobs' time in the last 5 minutes that went into computing new steps.",
             ('cause:weft_job_time:share5m{cause="compute"}', "computing"), lowest=0, highest=1),
        table("Jobs that run", "Jobs that hold workers, or held some and have not ended.", "job_name",
              (f"sum by (job_name, queue) (weft_job_step {IN_QUEUE})", "step", "none"),
              (f"sum by (job_name) (weft_job_step / weft_job_planned_steps {IN_QUEUE})", "progress", "percentunit"),
              (f"sum by (job_name) (weft_job_loss {IN_QUEUE})", "loss", "none"),
              (f"sum by (job_name) (job_name:weft_job_tokens:rate1m {IN_QUEUE})", "tokens/s", "short"),
              (f"sum by (job_name) (weft_job_workers {IN_QUEUE})", "workers", "none"),
              (f"sum by (job_name) (sum by (job_name) (weft_job_recoveries_total) {IN_QUEUE})", "recoveries", "none")),
        Section("Queues"),
        graph("Jobs by state", "none", "How many jobs are in each state, ended ones apart.",
              ('sum by (state) (weft_jobs{queue=~"$queue", state!~"SUCCEEDED|FAILED|CANCELLED"})', "{{state}}"),
              stacked=True, lowest=0),
        graph("Longest present wait", "s", "How long the job that waits longest has been queued.",
              ('max by (queue) (weft_queue_oldest_wait_seconds{queue=~"$queue"})', "{{queue}}"), lowest=0),
        graph("Wait until placed", "s", "Time from submission to first placement, of the jobs that were placed in the last hour.",
              (quantile(0.5, "weft_queue_wait_seconds", "queue", '{queue=~"$queue"}', "1h"), "{{queue}}: half"),
              (quantile(0.9, "weft_queue_wait_seconds", "queue", '{queue=~"$queue"}', "1h"), "{{queue}}: 9 of 10"), lowest=0),
        graph("Workers held by queues", "none", "Workers that each queue's jobs hold, and the queue's limit if it has one.",
              ('max by (queue) (weft_queue_held_workers{queue=~"$queue"})', "{{queue}}"),
              ('max by (queue) (weft_queue_worker_limit{queue=~"$queue"})', "{{queue}}: limit"), lowest=0),
        graph("Submissions", "ops", "Jobs that clients asked for: accepted, or the code of the refusal.",
              ("sum by (result) (rate(weft_submissions_total[$__rate_interval]))", "{{result}}"), lowest=0),
        graph("Jobs that ended", "none", "Jobs in their last state that have not been deleted.",
              ('sum by (state) (weft_jobs{queue=~"$queue", state=~"SUCCEEDED|FAILED|CANCELLED"})', "{{state}}"),
              lowest=0),
        Section("Workers"),
        graph("Workers by state", "none", "Workers that the coordinator knows.",
              ("sum by (state) (weft_workers)", "{{state}}"), stacked=True, lowest=0),
        graph("Places for ranks", "none", "Devices of connected workers that are used, and that are free for new gangs.",
              ("sum by (device_kind, state) (weft_slots)", "{{device_kind}} {{state}}"), stacked=True, lowest=0),
        graph("Silence of workers", "s", "Time since a worker's last sign of life; it is lost after 5 s by default.",
              ("max by (worker) (weft_worker_heartbeat_age_seconds)", "{{worker}}"), lowest=0),
        Section("Goodput"),
        graph("Where time goes", "percentunit", "Shares of all jobs' time: compute is new steps, redo repeats steps that a failure lost.",
              ("cause:weft_job_time:share5m", "{{cause}}"), width=12, stacked=True, lowest=0, highest=1),
        graph("Tokens per second", "short", "Tokens trained on in a second, repeated steps included.",
              (f"sum by (job_name) (job_name:weft_job_tokens:rate1m {IN_QUEUE})", "{{job_name}}"),
              width=12, stacked=True, lowest=0),
        graph("Recoveries", "none", "Gangs that ended before their job did, in 5 minutes, by cause.",
              ("sum by (cause) (increase(weft_job_recoveries_total[5m]))", "{{cause}}"), width=12, lowest=0),
        graph("Time to recover", "s", "From the first sign that a gang ends until the next one trains, of the last hour's recoveries.",
              (quantile(0.5, "weft_recovery_seconds", "", window="1h"), "half"),
              (quantile(0.9, "weft_recovery_seconds", "", window="1h"), "9 of 10"),
              width=12, lowest=0),
    ],
    ALL_EVENTS)

ONE_JOB = Dashboard(
    "weft-job", "Weft / Job", "How jobs learn, how fast, and what holds them up.",
    [DATASOURCE, QUEUE, JOB, RANK],
    [
        Section("Now"),
        stat("State", "none", "The state that each job is in.",
             (f"weft_job_state{J}", "{{job_name}}: {{state}}"), named=True),
        stat("Progress", "percentunit", "Steps done of all steps.",
             (f"weft_job_step{J} / weft_job_planned_steps{J}", "{{job_name}}"), lowest=0, highest=1, named=True),
        stat("Time left", "s", "Steps that are left, at the speed of the last 5 minutes.",
             (f"(weft_job_planned_steps{J} - weft_job_step{J}) * on (job_name) job_name:weft_job_step_seconds:mean5m",
              "{{job_name}}"), named=True),
        stat("Goodput", "percentunit", "Share of the job's time in the last 5 minutes that went into computing new steps.",
             ('job_name_cause:weft_job_time:share5m{job_name=~"$job", cause="compute"}', "{{job_name}}"),
             lowest=0, highest=1, named=True),
        stat("Recoveries", "none", "Gangs that ended before the job did, since the coordinator started.",
             (f"sum by (job_name) (weft_job_recoveries_total{J})", "{{job_name}}"), named=True,
             limits=((1, "yellow"), (4, "red"))),
        stat("Age of the checkpoint", "s", "What a failure now would cost: time since the newest checkpoint.",
             (f"time() - weft_checkpoint_last_success_timestamp_seconds{J}", "{{job_name}}"), named=True),
        Section("Learning"),
        graph("Loss", "none", "Loss in nats a token: of the steps, and of the evaluations.",
              (f"weft_job_loss{J}", "{{job_name}}"),
              (f"weft_job_validation_loss{J}", "{{job_name}} validation"), width=12),
        graph("Accuracy", "percentunit", "Share of targets that were the likeliest class.",
              (f"weft_job_accuracy_ratio{J}", "{{job_name}} {{split}}"), width=12, lowest=0, highest=1),
        graph("Bits per byte", "none", "The loss in bits, of jobs whose targets are the bytes of a text.",
              (f"weft_job_bits_per_byte{J}", "{{job_name}} {{split}}"), width=8),
        graph("Perplexity", "none", "Exponential of the loss, of jobs whose targets are other tokens.",
              (f"weft_job_perplexity{J}", "{{job_name}} {{split}}"), width=8, logarithmic=True),
        graph("Density of graphs", "percentunit", "Share of pairs of tokens that the graphs of mixers sbm link, by layer.",
              (f"weft_job_graph_density_ratio{J}", "{{job_name}} layer {{layer}}"), width=8, lowest=0, highest=1),
        graph("Gradient norm", "none", "Norm of the gradient before clipping.",
              (f"weft_job_gradient_norm{J}", "{{job_name}}"), width=6, logarithmic=True),
        graph("Learning rate", "sci", "Learning rate of the last step.",
              (f"weft_job_learning_rate{J}", "{{job_name}}"), width=6, lowest=0),
        graph("Step", "none", "The last step; a fall is a return to a checkpoint.",
              (f"weft_job_step{J}", "{{job_name}}"), width=12, lowest=0),
        graph("Updates that were skipped", "percentunit", "Share of steps whose gradient was not finite.",
              (f"rate(weft_job_skipped_steps_total{J}[$__rate_interval]) / "
               f"(rate(weft_job_step_seconds_count{J}[$__rate_interval]) > 0)", "{{job_name}}"),
              width=12, lowest=0),
        Section("Speed"),
        graph("Tokens per second", "short", "Tokens trained on in a second, repeated steps included.",
              (f"rate(weft_job_tokens_total{J}[$__rate_interval])", "{{job_name}}"), lowest=0),
        graph("Time of a step", "s", "Mean and slow steps; bucket bounds limit what the quantile can tell.",
              (f"sum by (job_name) (rate(weft_job_step_seconds_sum{J}[$__rate_interval])) / "
               f"(sum by (job_name) (rate(weft_job_step_seconds_count{J}[$__rate_interval])) > 0)", "{{job_name}} mean"),
              (quantile(0.99, "weft_job_step_seconds", "job_name", J), "{{job_name}} 99 of 100"), lowest=0),
        graph("Where time goes", "percentunit", "Share of each second by cause: redo repeats lost steps, wait is for workers.",
              (f"sum by (cause) (rate(weft_job_time_seconds_total{J}[$__rate_interval])) / ignoring (cause) group_left () "
               f"(sum (rate(weft_job_time_seconds_total{J}[$__rate_interval])) > 0)",
               "{{cause}}"), stacked=True, lowest=0, highest=1),
        Section("Ranks"),
        graph("Computing, per step and rank", "s", "Time that each rank computes in a step; the slowest one makes the others wait.",
              (f'rate(weft_rank_time_seconds_total{{job_name=~"$job", rank=~"$rank", cause="compute"}}[$__rate_interval])'
               f" / on (job_name, rank, instance) (rate(weft_rank_steps_total{JR}[$__rate_interval]) > 0)",
               "{{job_name}} rank {{rank}}"), lowest=0),
        graph("Waiting in exchanges, per step and rank", "s", "Time that each rank waits for gradients in a step: least at the slowest rank.",
              (f'rate(weft_rank_time_seconds_total{{job_name=~"$job", rank=~"$rank", cause="exchange"}}[$__rate_interval])'
               f" / on (job_name, rank, instance) (rate(weft_rank_steps_total{JR}[$__rate_interval]) > 0)",
               "{{job_name}} rank {{rank}}"), lowest=0),
        graph("Skew", "none", "Computing time of the slowest rank over the mean: 1 is even, 1.2 wastes a sixth of the others.",
              (f"job_name:weft_rank_skew:ratio{J}", "{{job_name}}"), lowest=1),
        Section("Failures and checkpoints"),
        graph("Recoveries", "none", "Gangs that ended before the job did, by cause, since the coordinator started.",
              (f"sum by (job_name, cause) (weft_job_recoveries_total{J})", "{{job_name}} {{cause}}"), lowest=0),
        graph("Workers", "none", "Workers that the job holds.",
              (f"weft_job_workers{J}", "{{job_name}}"), lowest=0),
        graph("Generation", "none", "How many gangs were formed; each rise is a new start of the ranks.",
              (f"weft_job_generation{J}", "{{job_name}}"), lowest=0),
        graph("Steps since the checkpoint", "none", "Steps that a failure now would cost.",
              (f"weft_job_step{J} - (weft_job_checkpoint_step{J} or weft_job_step{J} * 0)", "{{job_name}}"), lowest=0),
        graph("Checkpoints", "none", "Checkpoints in 5 minutes.",
              (f"increase(weft_job_checkpoints_total{J}[5m])", "{{job_name}}"), lowest=0),
        graph("Size of a checkpoint", "bytes", "Bytes of the newest checkpoint.",
              (f"weft_job_checkpoint_bytes{J}", "{{job_name}}"), lowest=0),
    ],
    JOB_EVENTS)

ONE_WORKER = Dashboard(
    "weft-worker", "Weft / Worker and GPU", "What workers and their devices do.",
    [DATASOURCE, WORKER, DEVICE],
    [
        Section("Now"),
        stat("Workers that answer", "none", "Agents that answer Prometheus.",
             ('count(weft_worker_info{worker=~"$worker"}) or vector(0)', "workers")),
        stat("Connected", "none", "Agents that are connected to their coordinator.",
             (f"sum(weft_worker_link_up {NAMED})", "connected")),
        stat("Ranks", "none", "Rank processes that run.", (f"sum(weft_worker_ranks {NAMED})", "ranks")),
        stat("Utilisation", "percentunit", "Mean over the chosen devices.",
             (f'avg(weft_device_utilization_ratio{{device=~"$device"}} {NAMED})', "computing"), lowest=0, highest=1),
        stat("Memory of devices", "percentunit", "Share of the chosen devices' memory that ranks use.",
             (f'sum(weft_device_memory_used_bytes{{device=~"$device"}} {NAMED}) / '
              f'sum(weft_device_memory_bytes{{device=~"$device"}} {NAMED})', "used"), lowest=0, highest=1,
             limits=((0.9, "yellow"), (0.97, "red"))),
        stat("Log lines dropped", "none", "Lines of jobs' logs that were dropped since the agents started.",
             (f"sum(weft_worker_log_lines_dropped {NAMED})", "lines"), limits=((1, "yellow"),)),
        Section("Devices"),
        graph("Utilisation", "percentunit", "Share of time in which a device computes; of a CPU device, the mean over its threads.",
              (f'weft_device_utilization_ratio{{device=~"$device"}} {NAMED}', "{{worker}} {{kind}} {{device}}"),
              width=12, lowest=0, highest=1),
        graph("Memory", "bytes", "Memory that ranks use on a device, and what the device has.",
              (f'weft_device_memory_used_bytes{{device=~"$device"}} {NAMED}', "{{worker}} {{kind}} {{device}}"),
              (f'weft_device_memory_bytes{{device=~"$device"}} {NAMED}', "{{worker}} {{kind}} {{device}}: all"),
              width=12, lowest=0),
        Section("Ranks"),
        graph("Ranks", "none", "Rank processes that run on each worker.",
              (f"weft_worker_ranks {NAMED}", "{{worker}}"), lowest=0),
        graph("Steps per second", "ops", "Steps that the worker's ranks take.",
              (f"rate(weft_rank_steps_total[$__rate_interval]) {NAMED}", "{{worker}} {{job_name}} rank {{rank}}"), lowest=0),
        graph("Where ranks' time goes", "percentunit", "Share of time by cause, over all ranks of the chosen workers.",
              (f"sum by (cause) (rate(weft_rank_time_seconds_total[$__rate_interval]) {NAMED}) / ignoring (cause) "
               f"group_left () (sum (rate(weft_rank_time_seconds_total[$__rate_interval]) {NAMED}) > 0)", "{{cause}}"),
              stacked=True, lowest=0, highest=1),
        graph("Members that ended", "none", "In 5 minutes, by outcome: failed and peer_lost are what recoveries come from.",
              (f"sum by (worker, outcome) (increase(weft_worker_exits_total[5m]) {NAMED})", "{{worker}} {{outcome}}"),
              lowest=0),
        graph("Time to start a member", "s", "From the order until its ranks ran and had met their relays, of the last hour's starts.",
              (f"histogram_quantile(0.9, sum by (le, worker) (rate(weft_worker_start_seconds_bucket[1h]) {NAMED}))",
               "{{worker}} 9 of 10"), lowest=0),
        graph("Jobs taken part in", "none", "Members that run on each worker.",
              (f"weft_worker_members {NAMED}", "{{worker}}"), lowest=0),
        Section("The agent"),
        graph("Connection", "none", "1 while the agent is connected to the coordinator.",
              (f"weft_worker_link_up {NAMED}", "{{worker}}"), lowest=0, highest=1),
        graph("Connections lost", "none", "Lost connections to the coordinator in 5 minutes.",
              (f"increase(weft_worker_link_losses_total[5m]) {NAMED} or 0 * weft_worker_link_up {NAMED}", "{{worker}}"),
              lowest=0),
        graph("Lag of the loop", "s", "How long the agent's oldest task has waited; from 10 s on it is not alive.",
              (f"weft_worker_loop_lag_seconds {NAMED}", "{{worker}}"), lowest=0),
        graph("Logs on disk", "bytes", "Bytes of jobs' logs that the worker keeps.",
              (f"weft_worker_log_spool_bytes {NAMED}", "{{worker}}"), lowest=0),
        graph("Memory of the agent", "bytes", "Resident memory of the agent itself, without ranks.",
              (f"process_resident_memory_bytes {NAMED}", "{{worker}}"), lowest=0),
        graph("Processor of the agent", "none", "Cores that the agent itself uses.",
              (f"rate(process_cpu_seconds_total[$__rate_interval]) {NAMED}", "{{worker}}"), lowest=0),
        graph("Certificate", "s", "Time until the worker's certificate expires; nothing without TLS.",
              (f"weft_tls_certificate_expiry_timestamp_seconds {NAMED} - time()", "{{worker}}")),
    ],
    ALL_EVENTS)

STREAMS = 'method!~".*/(Connect|WatchJob|TailLogs|SampleText|Watch|ServerReflectionInfo)"'
ON_COORDINATOR = '* on (instance) group_left () weft_build_info{program="weft-coordinator"}'

COORDINATOR = Dashboard(
    "weft-coordinator", "Weft / Coordinator", "Whether the coordinator keeps up: calls, decisions, commits, its loop.",
    [DATASOURCE],
    [
        Section("Now"),
        stat("Up since", "dateTimeFromNow", "When the coordinator started.",
             (f"max(process_start_time_seconds {ON_COORDINATOR}) * 1000", "started")),
        stat("Calls", "ops", "Calls that it answers in a second.",
             ("sum(rate(weft_rpc_seconds_count[$__rate_interval]))", "calls")),
        stat("Calls that failed", "percentunit", "Share of the last 5 minutes' calls with another code than OK.",
             ('(sum(rate(weft_rpc_seconds_count{code!="OK"}[5m])) or vector(0)) / '
              "(sum(rate(weft_rpc_seconds_count[5m])) > 0) or vector(0)", "failed"), lowest=0, highest=1),
        stat("Commits that failed", "none", "In the last 5 minutes; with any, its state is not durable.",
             ('sum(increase(weft_commit_seconds_count{result!="OK"}[5m])) or vector(0)', "failed"), limits=((1, "red"),)),
        stat("Facts", "ops", "Facts that become durable in a second.",
             ("sum(rate(weft_committed_facts_total[$__rate_interval]))", "facts")),
        stat("Measurements dropped", "none", "Measurements for more series than one metric may have, since the start.",
             ("sum(weft_metrics_dropped_total) or vector(0)", "dropped"), limits=((1, "red"),)),
        Section("Calls"),
        graph("Rate", "ops", "Calls that ended in a second, by method; a stream counts when it ends.",
              ("sum by (method) (rate(weft_rpc_seconds_count[$__rate_interval]))", "{{method}}"), lowest=0),
        graph("Errors", "ops", "Calls that ended with another code than OK; CANCELLED is mostly a client that left.",
              ('sum by (method, code) (rate(weft_rpc_seconds_count{code!="OK"}[$__rate_interval]))',
               "{{method}} {{code}}"), lowest=0),
        graph("Latency", "s", "Time to answer; streams are left out. Bucket bounds limit what quantiles can tell.",
              (quantile(0.5, "weft_rpc_seconds", "method", "{" + STREAMS + "}"), "{{method}} half"),
              (quantile(0.99, "weft_rpc_seconds", "method", "{" + STREAMS + "}"), "{{method}} 99 of 100"), lowest=0),
        Section("Decide, store, act"),
        graph("Time to decide", "s", "Time that the pure core takes for one event.",
              (quantile(0.5, "weft_decide_seconds", ""), "half"),
              (quantile(0.99, "weft_decide_seconds", ""), "99 of 100"), lowest=0),
        graph("Time to commit", "s", "Time to make facts durable, the disk's sync included.",
              (quantile(0.5, "weft_commit_seconds", "result"), "{{result}} half"),
              (quantile(0.99, "weft_commit_seconds", "result"), "{{result}} 99 of 100"), lowest=0),
        graph("Commits and facts", "ops", "Commits and facts in a second; many facts a commit is what saves it under load.",
              ("sum by (result) (rate(weft_commit_seconds_count[$__rate_interval]))", "commits {{result}}"),
              ("sum(rate(weft_committed_facts_total[$__rate_interval]))", "facts"), lowest=0),
        graph("Lag of the loop", "s", "How late the event loop runs its timers.",
              (quantile(0.5, "weft_loop_lag_seconds", ""), "half"),
              (quantile(0.99, "weft_loop_lag_seconds", ""), "99 of 100"), lowest=0),
        graph("Events that wait", "none", "Events whose facts are not durable yet.",
              ("sum(weft_pending_events)", "events"), lowest=0),
        graph("Workers that it hears", "none", "Connected workers: ready or draining.",
              ('sum by (state) (weft_workers{state!="LOST"})', "{{state}}"), stacked=True, lowest=0),
        Section("The process"),
        graph("Memory", "bytes", "Resident memory of the coordinator.",
              (f"process_resident_memory_bytes {ON_COORDINATOR}", "{{instance}}"), lowest=0),
        graph("Processor", "none", "Cores that it uses.",
              (f"rate(process_cpu_seconds_total[$__rate_interval]) {ON_COORDINATOR}", "{{instance}}"), lowest=0),
        graph("Open files", "none", "Open file descriptors, and how many there may be.",
              (f"process_open_fds {ON_COORDINATOR}", "{{instance}}"),
              (f"process_max_fds {ON_COORDINATOR}", "{{instance}}: most"), lowest=0, logarithmic=True),
        graph("Certificate", "s", "Time until the coordinator's certificate expires; nothing without TLS.",
              (f"weft_tls_certificate_expiry_timestamp_seconds {ON_COORDINATOR} - time()", "{{instance}}")),
    ],
    ALL_EVENTS)

DASHBOARDS = [OVERVIEW, ONE_JOB, ONE_WORKER, COORDINATOR]
