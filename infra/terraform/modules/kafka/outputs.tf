output "brokers" {
  description = "host:port,host:port,… for SASL/SCRAM over TLS."
  value       = aws_msk_cluster.this.bootstrap_brokers_sasl_scram

  # Nobody can log in before.
  depends_on = [aws_msk_scram_secret_association.this]
}

output "user" {
  description = "Whom the platform logs in as."
  value       = local.user
}

output "identifier" {
  description = "The cluster, as CloudWatch names it."
  value       = aws_msk_cluster.this.cluster_name
}
