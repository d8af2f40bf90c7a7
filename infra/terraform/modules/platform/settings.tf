# What all this means to the platform: settings by the names of environment variables. Those without
# a secret are outputs, for the ConfigMap meshwright-engines; those with one go to Secrets Manager, from
# where External Secrets brings them.

locals {
  settings = {
    MESHWRIGHT_OBJECTS__URL             = "s3://${module.objects.bucket}"
    MESHWRIGHT_OBJECTS__REGION          = module.objects.region
    MESHWRIGHT_TELEMETRY__OTLP_ENDPOINT = module.observability.otlp_endpoint
    MESHWRIGHT_RAG__FULL_TEXT__CA_FILE  = "/etc/meshwright/ca/elasticsearch.pem"
  }

  hosts = [
    module.postgres.host, module.redis.host, module.kafka.brokers, module.rabbitmq.host,
    module.search.host, module.vectors.host,
  ]
}

module "settings" {
  source = "../settings"

  name             = var.name
  hosts            = local.hosts
  rotation         = var.password_rotation
  reader_role_name = module.addons.secret_reader_role_name
  secrets_key_arn  = module.keys.secrets_key_arn

  keda = {
    bootstrapServers = module.kafka.brokers
    username         = module.kafka.user
    password         = module.passwords.passwords["kafka"]
  }

  secrets = {
    # {service} is filled by each process: a role of its own for each service.
    MESHWRIGHT_DATABASE__URL = join("", [
      "postgresql://meshwright_{service}:${module.passwords.passwords["postgres"]}",
      "@${module.postgres.host}:${module.postgres.port}/meshwright",
      "?sslmode=verify-full&sslrootcert=/etc/meshwright/ca/postgres.pem",
    ])
    MESHWRIGHT_REDIS__URL = "rediss://:${module.redis.token}@${module.redis.host}:${module.redis.port}/0"
    MESHWRIGHT_EVENTS__URL = join("", [
      "kafka+tls://${module.kafka.user}:${module.passwords.passwords["kafka"]}@${module.kafka.brokers}",
    ])
    MESHWRIGHT_DISPATCH__URL       = "amqps://${module.rabbitmq.user}:${module.rabbitmq.password}@${module.rabbitmq.host}:5671/"
    MESHWRIGHT_RAG__FULL_TEXT__URL = "https://${module.search.user}:${module.passwords.passwords["search"]}@${module.search.host}:9200"
    MESHWRIGHT_RAG__VECTORS__URL   = "http://${module.vectors.user}:${module.passwords.passwords["vectors"]}@${module.vectors.host}:19530"
  }
}
