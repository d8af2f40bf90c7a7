"""What infra/terraform would make in production holds what docs/terraform.md says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshwright_common.events import kafka_topics
from meshwright_common.settings import EventSettings
from meshwright_common.storage.bootstrap import DEADLOCK_TIMEOUT
from tests.integration.terraform_plan import Plan, plan

# The first one on a machine builds OpenTofu.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def production() -> Plan:
    return plan("prod")


@pytest.fixture(scope="module")
def development() -> Plan:
    return plan("dev")


def parameters(group: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in group["parameter"]}


def statements(policy: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(policy)["Statement"]
    return found


@pytest.mark.promise("OPS-TF-01")
def test_postgresql_has_a_standby_and_thirty_days_of_any_second(production: Plan) -> None:
    instance = production.one("aws_db_instance")
    assert instance["multi_az"]
    assert instance["backup_retention_period"] == 30
    assert not instance["delete_automated_backups"]
    assert len(production.one("aws_db_subnet_group")["subnet_ids"]) == 3


@pytest.mark.promise("OPS-TF-01")
def test_postgresql_ends_what_hangs_and_logs_no_content(production: Plan) -> None:
    told = parameters(production.one("aws_db_parameter_group"))
    assert told["synchronous_commit"] == "on"
    assert told["idle_in_transaction_session_timeout"] == "10000"
    assert told["deadlock_timeout"] == DEADLOCK_TIMEOUT.removesuffix("ms")
    assert told["log_parameter_max_length"] == told["log_parameter_max_length_on_error"] == "0"


@pytest.mark.promise("OPS-TF-01")
def test_valkey_fails_over_and_forgets_no_limit(production: Plan) -> None:
    group = production.one("aws_elasticache_replication_group")
    assert group["num_cache_clusters"] == 3
    assert group["automatic_failover_enabled"]
    assert group["multi_az_enabled"]
    told = parameters(production.one("aws_elasticache_parameter_group"))
    assert told == {"maxmemory-policy": "noeviction"}


@pytest.mark.promise("OPS-TF-01")
def test_kafka_has_the_defaults_that_the_platform_gives_its_topics(production: Plan) -> None:
    cluster = production.one("aws_msk_cluster")
    assert cluster["number_of_broker_nodes"] == 3
    lines = production.one("aws_msk_configuration")["server_properties"].splitlines()
    told = dict(line.split("=", 1) for line in lines)
    assert told["default.replication.factor"] == str(kafka_topics.COPIES)
    assert told["min.insync.replicas"] == str(kafka_topics.IN_SYNC)
    assert told["num.partitions"] == str(EventSettings().partitions)
    assert int(told["message.max.bytes"]) >= kafka_topics.MAX_MESSAGE_BYTES
    assert told["unclean.leader.election.enable"] == "false"
    assert told["auto.create.topics.enable"] == "false"


@pytest.mark.promise("OPS-TF-01")
def test_quorums_have_three_members(production: Plan) -> None:
    broker = production.one("aws_mq_broker")
    assert broker["deployment_mode"] == "CLUSTER_MULTI_AZ"
    assert len(broker["subnet_ids"]) == 3
    charts = production.of("helm_release")
    search = charts["module.search.helm_release.elasticsearch"]["values"][0]
    assert '"nodes": 3' in search
    vectors = charts["module.vectors.helm_release.this"]
    assert vectors["chart"] == "milvus"


@pytest.mark.promise("OPS-TF-01")
def test_the_network_has_three_zones_with_a_way_out_each(production: Plan) -> None:
    zones = {one["availability_zone"] for one in production.of("aws_subnet").values()}
    assert len(zones) == 3
    assert len(production.of("aws_nat_gateway")) == 3


@pytest.mark.promise("OPS-TF-02")
@pytest.mark.parametrize("environment", ["production", "development"])
def test_what_is_stored_is_encrypted(environment: str, request: pytest.FixtureRequest) -> None:
    made: Plan = request.getfixturevalue(environment)
    assert made.one("aws_db_instance")["storage_encrypted"]
    assert made.one("aws_elasticache_replication_group")["at_rest_encryption_enabled"]
    assert not made.one("aws_mq_broker")["encryption_options"][0]["use_aws_owned_key"]
    assert made.one("aws_eks_cluster")["encryption_config"][0]["resources"] == ["secrets"]
    for template in made.of("aws_launch_template").values():
        # The provider's schema says it in words.
        assert template["block_device_mappings"][0]["ebs"][0]["encrypted"] in {True, "true"}
    claims = made.one("kubernetes_storage_class_v1")
    assert claims["parameters"]["encrypted"] == "true"
    buckets = made.of("aws_s3_bucket")
    sealed = made.of("aws_s3_bucket_server_side_encryption_configuration")
    assert len(buckets) == len(sealed) == 3
    keys = made.of("aws_kms_key").values()
    assert keys
    assert all(key["enable_key_rotation"] for key in keys)


@pytest.mark.promise("OPS-TF-02")
@pytest.mark.parametrize("environment", ["production", "development"])
def test_every_way_to_what_aws_keeps_is_tls_with_a_login(
    environment: str, request: pytest.FixtureRequest
) -> None:
    made: Plan = request.getfixturevalue(environment)
    assert parameters(made.one("aws_db_parameter_group"))["rds.force_ssl"] == "1"
    cache = made.one("aws_elasticache_replication_group")
    assert cache["transit_encryption_mode"] == "required"
    kafka = made.one("aws_msk_cluster")
    assert kafka["encryption_info"][0]["encryption_in_transit"][0]["client_broker"] == "TLS"
    assert not kafka["client_authentication"][0]["unauthenticated"]
    assert kafka["client_authentication"][0]["sasl"][0]["scram"]
    policies = made.of("aws_s3_bucket_policy")
    assert len(policies) == 3
    for policy in policies.values():
        assert any(
            one["Effect"] == "Deny"
            and one["Action"] == "s3:*"
            and one["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
            for one in statements(policy["policy"])
        )


@pytest.mark.promise("OPS-TF-02")
@pytest.mark.parametrize("environment", ["production", "development"])
def test_nothing_that_stores_is_open_to_the_world(
    environment: str, request: pytest.FixtureRequest
) -> None:
    made: Plan = request.getfixturevalue(environment)
    assert made.one("aws_db_instance")["publicly_accessible"] is False
    assert made.one("aws_mq_broker")["publicly_accessible"] is False
    assert made.one("aws_eks_cluster")["vpc_config"][0]["endpoint_public_access"] is False
    blocks = made.of("aws_s3_bucket_public_access_block")
    assert len(blocks) == 3
    for block in blocks.values():
        assert block["block_public_policy"]
        assert block["restrict_public_buckets"]
    for rule in made.of("aws_vpc_security_group_ingress_rule").values():
        assert rule.get("cidr_ipv4") in {None, "10.20.0.0/16", "10.30.0.0/16"}


@pytest.mark.promise("OPS-TF-03")
def test_what_holds_data_cannot_be_deleted_by_mistake(production: Plan) -> None:
    instance = production.one("aws_db_instance")
    assert instance["deletion_protection"]
    assert not instance["skip_final_snapshot"]
    assert production.one("aws_eks_cluster")["deletion_protection"]
    assert all(not one["force_destroy"] for one in production.of("aws_s3_bucket").values())
    assert production.one("kubernetes_storage_class_v1")["reclaim_policy"] == "Retain"
    for secret in production.of("aws_secretsmanager_secret").values():
        assert secret["recovery_window_in_days"] == 30


@pytest.mark.promise("OPS-TF-03")
def test_objects_have_locks_and_old_versions_go_with_the_backups(production: Plan) -> None:
    bucket = production.resources["module.objects.aws_s3_bucket.this"]
    assert bucket["object_lock_enabled"]
    lifecycle = production.resources["module.objects.aws_s3_bucket_lifecycle_configuration.this"]
    days = [
        expiry["noncurrent_days"]
        for rule in lifecycle["rule"]
        for expiry in rule["noncurrent_version_expiration"]
    ]
    assert days == [production.one("aws_db_instance")["backup_retention_period"]]


@pytest.mark.promise("OPS-TF-04")
@pytest.mark.parametrize("environment", ["production", "development"])
def test_passwords_that_need_not_be_in_the_state_are_not_in_the_plan(
    environment: str, request: pytest.FixtureRequest
) -> None:
    """The planner gives this text for every password that is made or read on the way."""
    made: Plan = request.getfixturevalue(environment)
    assert "never-in-a-plan" not in made.text
    assert made.one("aws_db_instance")["manage_master_user_password"]
    in_state = {address for address in made.resources if ".random_password." in address}
    # The two that AWS takes in no other way; docs/terraform.md names them.
    assert in_state == {
        "module.redis.random_password.token",
        "module.rabbitmq.random_password.login",
    }


@pytest.mark.promise("OPS-TF-04")
def test_roles_of_pods_may_do_what_they_need_and_no_more(production: Plan) -> None:
    for address, role in production.of("aws_iam_role").items():
        # That of Milvus names the cluster's issuer, which only the cloud tells.
        if address.startswith("module.vectors."):
            continue
        for statement in statements(role["assume_role_policy"]):
            assert statement["Principal"] != "*", address
            assert statement["Effect"] == "Allow"
    # Some name what only the cloud tells; checkov reads their text.
    known = {
        address: policy["policy"]
        for address, policy in production.of("aws_iam_role_policy").items()
        if "policy" in policy
    }
    assert {"objects", "settings", "vectors"} <= {address.split(".")[1] for address in known}
    for address, policy in known.items():
        for statement in statements(policy):
            assert all(action.count(":") == 1 for action in statement["Action"]), address
            assert not any(action.endswith(":*") for action in statement["Action"]), address


@pytest.mark.promise("OPS-TF-05")
def test_both_environments_have_the_same_things(production: Plan, development: Plan) -> None:
    assert production.types == development.types
