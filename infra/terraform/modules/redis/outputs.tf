output "host" {
  description = "Name of the node that writes."
  value       = aws_elasticache_replication_group.this.primary_endpoint_address
}

output "port" {
  description = "Its port; it speaks TLS alone."
  value       = aws_elasticache_replication_group.this.port
}

output "token" {
  description = "What logs in."
  value       = random_password.token.result
  sensitive   = true
}

output "node_identifiers" {
  description = "The nodes, as CloudWatch names them."
  value       = [for at in range(var.nodes) : format("%s-%03d", var.name, at + 1)]
}
