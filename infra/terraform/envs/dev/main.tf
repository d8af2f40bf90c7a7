# Development: the same things as in production, small and cheap. A zone that fails takes it down,
# and it can be deleted; what is stored is as encrypted as there.
locals {
  environment = "dev"
}

module "platform" {
  source = "../../modules/platform"

  name                = "meshwright-${local.environment}"
  cidr                = "10.30.0.0/16"
  zones               = var.zones
  single_nat_gateway  = true
  deletion_protection = false
  bucket_prefix       = var.bucket_prefix
  zone                = var.zone
  host                = var.host
  administrators      = var.administrators
  public_access_cidrs = var.public_access_cidrs
  alarm_addresses     = var.alarm_addresses
  password_rotation   = var.password_rotation

  node_groups = {
    services = { instance_types = ["m7i.xlarge", "m6i.xlarge"], minimum = 2, maximum = 6, spot = true }
    stores   = { instance_types = ["r7i.xlarge"], minimum = 2, maximum = 3, tainted = true }
  }

  postgres = {
    instance_class      = "db.t4g.large"
    storage_gib         = 50
    maximum_storage_gib = 200
    max_connections     = 300
    multi_az            = false
    backup_days         = 7
  }

  redis    = { node_type = "cache.t4g.small", nodes = 1 }
  kafka    = { brokers = 3, instance_type = "kafka.m7g.large", storage_gib = 50 }
  rabbitmq = { instance_type = "mq.m7g.medium", deployment_mode = "SINGLE_INSTANCE" }
  search   = { nodes = 1, memory = "4Gi", storage = "50Gi" }
  vectors  = { replicas = 1 }

  chart_versions = {
    aws_load_balancer_controller = "1.13.4"
    eck_operator                 = "3.1.0"
    external_secrets             = "2.0.0"
    keda                         = "2.17.2"
    kube_prometheus_stack        = "67.8.0"
    milvus                       = "4.2.45"
    opentelemetry_collector      = "0.158.3"
  }
}
