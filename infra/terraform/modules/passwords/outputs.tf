output "passwords" {
  description = "Password by store: postgres, kafka, search, vectors, grafana."
  value       = jsondecode(ephemeral.aws_secretsmanager_secret_version.this.secret_string)
  ephemeral   = true
  sensitive   = true
}
