output "data_key_arn" {
  description = "Key of the stores: PostgreSQL, Redis, Kafka, RabbitMQ, objects."
  value       = aws_kms_key.this["data"].arn
}

output "secrets_key_arn" {
  description = "Key of Secrets Manager and of the cluster's own secrets."
  value       = aws_kms_key.this["secrets"].arn
}

output "logs_key_arn" {
  description = "Key of every log group."
  value       = aws_kms_key.this["logs"].arn
}

output "disks_key_arn" {
  description = "Key of the nodes' disks and of volumes that the cluster makes."
  value       = aws_kms_key.this["disks"].arn
}
