output "cluster_name" {
  description = "For `aws eks update-kubeconfig --name …`."
  value       = module.platform.cluster.name
}

output "settings" {
  description = "Settings without a secret, by environment variable: the ConfigMap meshwright-engines."
  value       = module.platform.settings
}

output "secrets" {
  description = "Secrets of Secrets Manager by the name under which infra/k8s asks for them."
  value       = module.platform.secrets
}

output "postgres_host" {
  description = "PostgreSQL, for the first `meshwright migrate --bootstrap`."
  value       = module.platform.postgres_host
}

output "ingress" {
  description = "What the Ingress names: host, certificate, subnets of its load balancer."
  value       = module.platform.ingress
}

output "search_certificate" {
  description = "Secret with the authority of Elasticsearch's certificate: namespace/name, key ca.crt."
  value       = module.platform.search_certificate
}

output "rabbitmq_console" {
  description = "RabbitMQ's management API, from inside the network."
  value       = module.platform.rabbitmq_console
}

output "alarms_topic_arn" {
  description = "Topic of alarms about stores."
  value       = module.platform.alarms_topic_arn
}
