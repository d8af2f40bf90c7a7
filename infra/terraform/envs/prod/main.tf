# Production: everything twice or three times, in three zones, and nothing that holds data can be
# deleted by mistake. Sizes are a beginning for some hundred requests a second; docs/terraform.md says
# what to raise first.
locals {
  environment = "prod"
}

module "platform" {
  source = "../../modules/platform"

  name                = "meshwright-${local.environment}"
  cidr                = "10.20.0.0/16"
  zones               = var.zones
  single_nat_gateway  = false
  deletion_protection = true
  bucket_prefix       = var.bucket_prefix
  zone                = var.zone
  host                = var.host
  administrators      = var.administrators
  public_access_cidrs = var.public_access_cidrs
  alarm_addresses     = var.alarm_addresses
  password_rotation   = var.password_rotation

  node_groups = {
    services = { instance_types = ["m7i.2xlarge"], minimum = 3, maximum = 20 }
    stores   = { instance_types = ["r7i.2xlarge"], minimum = 3, maximum = 6, tainted = true }
  }

  postgres = {
    instance_class      = "db.r7g.2xlarge"
    storage_gib         = 400
    maximum_storage_gib = 4000
    max_connections     = 1000
    multi_az            = true
    backup_days         = 30
  }

  redis    = { node_type = "cache.r7g.large", nodes = 3 }
  kafka    = { brokers = 3, instance_type = "kafka.m7g.large", storage_gib = 500 }
  rabbitmq = { instance_type = "mq.m7g.large", deployment_mode = "CLUSTER_MULTI_AZ" }
  search   = { nodes = 3, memory = "16Gi", storage = "200Gi" }
  vectors  = { replicas = 2 }

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
