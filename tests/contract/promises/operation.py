"""Promises to those who operate the platform."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

DAY_TWO: dict[str, Promise] = {
    "OPS-DAY2-01": Promise(
        "A platform that is backed up under load, killed and deleted is restored from the backup "
        "and its master key: sessions, documents, usage, quotas and tasks are as they were, a "
        "search finds the same passages in the same order, each audit chain verifies, and a task "
        "that waited for a person goes on once.",
        "issue 7, build 6 and must show; docs/backup.md",
    ),
    "OPS-DAY2-02": Promise(
        "A migration that waits for a lock gives way before services do and tries again, so no "
        "write is refused for it; what locks, rewrites or breaks older code is not let in without "
        "a reason.",
        "issue 7, build 6; docs/upgrade.md",
    ),
    "OPS-DAY2-03": Promise(
        "A backup of a platform on servers of its own is restored into an empty database and an "
        "empty bucket, where each audit chain verifies; a damaged or forged backup, another master "
        "key and a target that is not empty are refused by name.",
        "issue 7, build 6; docs/backup.md",
    ),
}

TRACES: dict[str, Promise] = {
    "OPS-TRACE-01": Promise(
        "One question whose answer takes a tool is one trace over gateway, chat, orchestrator, "
        "model router, tools and the consumer of events, in one process or many, without a span "
        "whose parent is missing.",
        "issue 7, must show; docs/telemetry.md",
    ),
    "OPS-TRACE-02": Promise(
        "Traces carry no prompt, answer, argument, result or baggage unless a setting says so.",
        "issue 7, build 4; docs/telemetry.md",
    ),
    "OPS-TRACE-03": Promise(
        "What fails is kept, from the edge to where it failed, although its trace was not sampled.",
        "issue 7, build 4; docs/adr/0031",
    ),
    "OPS-TRACE-04": Promise(
        "A task from the queue goes on in the trace of its submission, to the webhook that is told "
        "of its end; foreign hosts learn nothing of the trace.",
        "issue 7, build 4; docs/telemetry.md",
    ),
    "OPS-TRACE-05": Promise(
        "The trace state of a caller comes with its trace through queue and events.",
        "issue 7, build 4; docs/telemetry.md",
    ),
}

TERRAFORM: dict[str, Promise] = {
    "OPS-TF-01": Promise(
        "In production each store survives the loss of a zone: PostgreSQL has a standby and thirty "
        "days back to any second, Valkey fails over and evicts nothing, Kafka has three copies of "
        "which two must be in step, queues and indexes have three members.",
        "issue 7, build 3; reliability.md D4-D7; docs/terraform.md",
    ),
    "OPS-TF-02": Promise(
        "In each environment what is stored is encrypted, what AWS keeps is reached by TLS with a "
        "login alone, and none of it is open to the world.",
        "issue 7, build 3; docs/terraform.md",
    ),
    "OPS-TF-03": Promise(
        "In production nothing that holds data can be deleted by mistake; what was erased is gone "
        "from old versions when it is gone from backups.",
        "issue 7, build 3; ADR 0018, ADR 0019; docs/terraform.md",
    ),
    "OPS-TF-04": Promise(
        "The state holds no password but the two that AWS takes in no other way; roles of pods "
        "name what they may do.",
        "issue 7, build 3; docs/terraform.md",
    ),
    "OPS-TF-05": Promise(
        "What Terraform hands over is what the platform reads and the manifests ask for, by the "
        "same names, in both environments.",
        "issue 7, build 2 and 3; docs/terraform.md",
    ),
    "OPS-TF-06": Promise(
        "Every variable says what it is, and values that make no sense are refused in words.",
        "issue 7, build 3",
    ),
    "OPS-TF-07": Promise(
        "A check of checkov that is skipped has its reason beside it.",
        "issue 7, must show",
    ),
}

METRICS: dict[str, Promise] = {
    "OPS-METRIC-01": Promise(
        "Every series and label that rules, dashboards and runbooks name is one that the code "
        "exports or a rule records.",
        "issue 7, must show; docs/observability.md",
    ),
    "OPS-METRIC-02": Promise(
        "Labels of metrics are bounded and name no tenant, user, session or task.",
        "issue 7, build 4; docs/tenant-data.md",
    ),
    "OPS-METRIC-03": Promise(
        "Each alert fires by what it is for and is quiet otherwise, and has a runbook whose "
        "commands exist.",
        "issue 7, build 5; docs/runbooks",
    ),
    "OPS-METRIC-04": Promise(
        "A Prometheus that scrapes a running platform, one process a service, sees each process, "
        "gets data for each panel, and fires and clears the alert for a stopped broker.",
        "issue 7, must show; docs/observability.md",
    ),
}

# Files of infra/k8s as a cluster gets them.
KUBERNETES: dict[str, Promise] = {
    "OPS-K8S-01": Promise(
        "A pod may take longer to stop than its process can, and is told to after its callers "
        "have looked elsewhere.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-02": Promise(
        "Probes ask what the process answers: health over gRPC or HTTP, by itself with mutual "
        "TLS; a store that goes away kills nothing.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-03": Promise(
        "A roll-out takes no pod away before its successor is ready.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-04": Promise(
        "Containers run as nobody, write to one small folder only, hold no right of the kernel or "
        "of the cluster, and say what they need.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-05": Promise(
        "Work that calls do not need runs in deployments of its own, all of it, each in one; a "
        "process does the work that its settings name.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-06": Promise(
        "Workloads are spread over zones and nodes, and nodes are drained one pod of each at a "
        "time.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-07": Promise(
        "Selectors of Deployments, Services and budgets find their own pods and no others.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-08": Promise(
        "A field that Kubernetes or an operator of it does not know fails the check.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-09": Promise(
        "Each process of the manifests understands all of its variables, and none is one that "
        "nobody reads.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-10": Promise(
        "A process gets the secrets that its code reads and no others, by reference; all of them "
        "are documented.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-11": Promise(
        "Migrations are a Job of their own, as the owner of the tables.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-12": Promise(
        "Network policies open the calls of the code, the stores that it reads, and nothing else.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-13": Promise(
        "What scales a workload are metrics, queues, topics and consumers that the code has, one "
        "scaler each, within the quota.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
    "OPS-K8S-14": Promise(
        "What stands before the gateways speaks TLS 1.3, buffers nothing, and ends no stream that "
        "lives.",
        "issue 7, build 2; docs/kubernetes.md",
    ),
}

IMAGES: dict[str, Promise] = {
    "OPS-IMAGE-01": Promise(
        "The image of a service holds what its service imports, from the one lock, and neither "
        "tests, nor tools, nor the code of other services, nor a database server.",
        "issue 7, build 1; docs/images.md",
    ),
    "OPS-IMAGE-02": Promise(
        "A service runs from its image as user 10001 without rights on a read-only root with /tmp "
        "writable; the image's health check follows the process, and SIGTERM ends it with 0.",
        "issue 7, build 1; docs/images.md",
    ),
    "OPS-IMAGE-03": Promise(
        "compose.yaml gives each service settings that its code knows and takes, in every profile; "
        "it holds no secret, opens ports on the loopback alone, and every container is bounded, "
        "without capabilities.",
        "issue 7, build 1; docs/images.md",
    ),
}

SUPPLY: dict[str, Promise] = {
    "OPS-SUPPLY-01": Promise(
        "Every lock names exact versions with SHA-256 hashes, and no address.",
        "issue 7, build 7; docs/threat-model.md",
    ),
    "OPS-SUPPLY-02": Promise(
        "A locked distribution whose licence is unknown, or on no list, fails the checks.",
        "issue 7, build 7; docs/licences.md",
    ),
    "OPS-SUPPLY-03": Promise(
        "No installed distribution brings a .pth file that is not on the list.",
        "issue 7, build 7; docs/threat-model.md",
    ),
    "OPS-SUPPLY-04": Promise(
        "A CycloneDX bill of materials, valid by its schema, names what is locked for run time.",
        "issue 7, build 1; docs/images.md",
    ),
}
