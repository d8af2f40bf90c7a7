output "cluster" {
  description = "How to reach the cluster."
  value = {
    name                  = module.cluster.name
    endpoint              = module.cluster.endpoint
    certificate_authority = module.cluster.certificate_authority
  }
}

output "settings" {
  description = "Settings without a secret, by environment variable: the ConfigMap meshwright-engines."
  value       = local.settings
}

output "secrets" {
  description = "Secrets of Secrets Manager by the name under which infra/k8s asks for them."
  value = {
    settings               = module.settings.settings_secret
    keda                   = module.settings.keda_secret
    master_keys            = module.settings.master_keys_secret
    postgres_administrator = module.postgres.administrator_secret_arn
  }
}

output "postgres_host" {
  description = "PostgreSQL, for the first `meshwright migrate --bootstrap`."
  value       = module.postgres.host
}

output "ingress" {
  description = "What the Ingress names: host, certificate, subnets of its load balancer."
  value = {
    host            = module.dns.host
    certificate_arn = module.dns.certificate_arn
    subnet_ids      = module.network.public_subnet_ids
  }
}

output "search_certificate" {
  description = "Secret with the authority of Elasticsearch's certificate: namespace/name, key ca.crt."
  value       = "${module.addons.stores_namespace}/${module.search.certificate_secret}"
}

output "rabbitmq_console" {
  description = "RabbitMQ's management API, from inside the network."
  value       = module.rabbitmq.console
}

output "alarms_topic_arn" {
  description = "Topic of alarms about stores."
  value       = module.observability.alarms_topic_arn
}
