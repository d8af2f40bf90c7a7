# The seven stores. ARCHITECTURE.md says what each is for, docs/terraform.md which service keeps it.

module "postgres" {
  source = "../postgres"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.store_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  instance_class           = var.postgres.instance_class
  storage_gib              = var.postgres.storage_gib
  maximum_storage_gib      = var.postgres.maximum_storage_gib
  max_connections          = var.postgres.max_connections
  multi_az                 = var.postgres.multi_az
  backup_days              = var.postgres.backup_days
  deletion_protection      = var.deletion_protection
  data_key_arn             = module.keys.data_key_arn
  secrets_key_arn          = module.keys.secrets_key_arn
  logs_key_arn             = module.keys.logs_key_arn
}

module "redis" {
  source = "../redis"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.store_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  node_type                = var.redis.node_type
  nodes                    = var.redis.nodes
  token_version            = var.password_rotation
  data_key_arn             = module.keys.data_key_arn
  logs_key_arn             = module.keys.logs_key_arn
}

module "kafka" {
  source = "../kafka"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.store_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  brokers                  = var.kafka.brokers
  instance_type            = var.kafka.instance_type
  storage_gib              = var.kafka.storage_gib
  password                 = module.passwords.passwords["kafka"]
  password_version         = var.password_rotation
  data_key_arn             = module.keys.data_key_arn
  secrets_key_arn          = module.keys.secrets_key_arn
  logs_key_arn             = module.keys.logs_key_arn
}

module "rabbitmq" {
  source = "../rabbitmq"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.store_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  instance_type            = var.rabbitmq.instance_type
  deployment_mode          = var.rabbitmq.deployment_mode
  password_version         = var.password_rotation
  data_key_arn             = module.keys.data_key_arn
}

module "objects" {
  source = "../objects"

  name             = var.name
  bucket           = "${var.bucket_prefix}-${var.name}-objects"
  old_version_days = var.postgres.backup_days
  data_key_arn     = module.keys.data_key_arn
  cluster_name     = module.cluster.name
  namespace        = local.namespace
  service_accounts = local.object_accounts
}

module "search" {
  source = "../search"

  namespace              = module.addons.stores_namespace
  storage_class          = module.addons.storage_class
  operator_chart_version = var.chart_versions.eck_operator
  nodes                  = var.search.nodes
  memory                 = var.search.memory
  storage                = var.search.storage
  password               = module.passwords.passwords["search"]
  password_version       = var.password_rotation
}

module "vectors" {
  source = "../vectors"

  name              = var.name
  bucket            = "${var.bucket_prefix}-${var.name}-vectors"
  logs_bucket       = module.objects.logs_bucket
  namespace         = module.addons.stores_namespace
  storage_class     = module.addons.storage_class
  chart_version     = var.chart_versions.milvus
  replicas          = var.vectors.replicas
  oidc_provider_arn = module.cluster.oidc_provider_arn
  oidc_issuer       = module.cluster.oidc_issuer
  data_key_arn      = module.keys.data_key_arn
  password          = module.passwords.passwords["vectors"]
  password_version  = var.password_rotation
}
