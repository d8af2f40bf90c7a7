# One whole installation: what envs/dev and envs/prod share. They differ in sizes and in how much
# they guard, never in what there is.

data "aws_region" "current" {}

locals {
  region = data.aws_region.current.region
  # Namespace and service accounts of infra/k8s; those of services that keep objects, and of the jobs
  # that back up and erase.
  namespace       = "meshwright"
  object_accounts = ["session", "rag"]
}

module "keys" {
  source = "../keys"

  name = var.name
}

module "network" {
  source = "../network"

  name               = var.name
  cidr               = var.cidr
  zones              = var.zones
  single_nat_gateway = var.single_nat_gateway
  logs_key_arn       = module.keys.logs_key_arn
}

module "cluster" {
  source = "../cluster"

  name                = var.name
  kubernetes_version  = var.kubernetes_version
  private_subnet_ids  = module.network.private_subnet_ids
  public_access_cidrs = var.public_access_cidrs
  administrators      = var.administrators
  node_groups         = var.node_groups
  deletion_protection = var.deletion_protection
  secrets_key_arn     = module.keys.secrets_key_arn
  logs_key_arn        = module.keys.logs_key_arn
  disks_key_arn       = module.keys.disks_key_arn
}

module "dns" {
  source = "../dns"

  zone = var.zone
  host = var.host
}

module "addons" {
  source = "../addons"

  cluster_name              = module.cluster.name
  cluster_security_group_id = module.cluster.security_group_id
  region                    = local.region
  vpc_id                    = module.network.vpc_id
  zone_arn                  = module.dns.zone_arn
  disks_key_arn             = module.keys.disks_key_arn

  chart_versions = {
    keda                         = var.chart_versions.keda
    external_secrets             = var.chart_versions.external_secrets
    aws_load_balancer_controller = var.chart_versions.aws_load_balancer_controller
  }
}

module "passwords" {
  source = "../passwords"

  name            = var.name
  rotation        = var.password_rotation
  secrets_key_arn = module.keys.secrets_key_arn
}

module "observability" {
  source = "../observability"

  name             = var.name
  region           = local.region
  cluster_name     = module.cluster.name
  storage_class    = module.addons.storage_class
  replicas         = var.deletion_protection ? 2 : 1
  alarm_addresses  = var.alarm_addresses
  grafana_password = module.passwords.passwords["grafana"]
  password_version = var.password_rotation
  logs_key_arn     = module.keys.logs_key_arn

  stores = {
    postgres    = module.postgres.identifier
    redis_nodes = module.redis.node_identifiers
    kafka       = module.kafka.identifier
    rabbitmq    = module.rabbitmq.identifier
  }

  chart_versions = {
    kube_prometheus_stack   = var.chart_versions.kube_prometheus_stack
    opentelemetry_collector = var.chart_versions.opentelemetry_collector
  }
}
