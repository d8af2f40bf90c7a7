# Passwords that never stand in the state: made while this is applied, written to Secrets Manager, and
# read from there whenever something is made of them, so that a run that was cut short goes on with
# the same ones. Another `rotation` makes new ones.

ephemeral "random_password" "this" {
  for_each = local.users

  length  = 40
  special = false
}

locals {
  users = toset(["postgres", "kafka", "search", "vectors", "grafana"])
}

resource "aws_secretsmanager_secret" "this" {
  name                    = "${var.name}/passwords"
  description             = "What Meshwright logs in to its stores with"
  kms_key_id              = var.secrets_key_arn
  recovery_window_in_days = 30
}

resource "aws_secretsmanager_secret_version" "this" {
  secret_id                = aws_secretsmanager_secret.this.id
  secret_string_wo         = jsonencode({ for user in local.users : user => ephemeral.random_password.this[user].result })
  secret_string_wo_version = var.rotation
}

ephemeral "aws_secretsmanager_secret_version" "this" {
  secret_id = aws_secretsmanager_secret_version.this.secret_id
}
