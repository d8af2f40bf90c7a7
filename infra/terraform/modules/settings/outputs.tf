output "settings_secret" {
  description = "Name of the secret with the settings."
  value       = aws_secretsmanager_secret.settings.name
}

output "keda_secret" {
  description = "Name of the secret with KEDA's login."
  value       = aws_secretsmanager_secret.keda.name
}

output "master_keys_secret" {
  description = "Name of the secret with the master keys, empty until a person fills it."
  value       = aws_secretsmanager_secret.master_keys.name
}
