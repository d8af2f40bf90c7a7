# What the pods read: one secret whose keys are the names of environment variables, and an empty one
# for the master keys, which a person fills: with them everything sealed can be opened, and without
# them nothing ever again, so they are no business of a tool that can delete things.

resource "aws_secretsmanager_secret" "settings" {
  name                    = "${var.name}/settings"
  description             = "Addresses with logins, by environment variable; infra/k8s makes a Secret of it"
  kms_key_id              = var.secrets_key_arn
  recovery_window_in_days = 30
}

resource "aws_secretsmanager_secret_version" "settings" {
  secret_id                = aws_secretsmanager_secret.settings.id
  secret_string_wo         = jsonencode(var.secrets)
  secret_string_wo_version = local.version
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  # Written anew when a host changes, or a password.
  version = parseint(substr(sha256(jsonencode([var.hosts, var.rotation])), 0, 7), 16)

  # Signing keys of services, put there by a person as <name>/keys/<service>.
  signing_keys = join(":", [
    "arn", data.aws_partition.current.partition, "secretsmanager", data.aws_region.current.region,
    data.aws_caller_identity.current.account_id, "secret", "${var.name}/keys/*",
  ])
}

# KEDA's scaler for Kafka reads no URL of ours.
resource "aws_secretsmanager_secret" "keda" {
  name                    = "${var.name}/keda"
  description             = "How KEDA reads the lag of consumers"
  kms_key_id              = var.secrets_key_arn
  recovery_window_in_days = 30
}

resource "aws_secretsmanager_secret_version" "keda" {
  secret_id                = aws_secretsmanager_secret.keda.id
  secret_string_wo         = jsonencode(var.keda)
  secret_string_wo_version = local.version
}

resource "aws_secretsmanager_secret" "master_keys" {
  name                    = "${var.name}/master-keys"
  description             = "MESHWRIGHT_ENCRYPTION__MASTER_KEYS, filled by a person (docs/terraform.md)"
  kms_key_id              = var.secrets_key_arn
  recovery_window_in_days = 30
}

# External Secrets reads these, and nothing else.
resource "aws_iam_role_policy" "reader" {
  name = "read-settings-of-${var.name}"
  role = var.reader_role_name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
        Resource = [
          aws_secretsmanager_secret.settings.arn, aws_secretsmanager_secret.keda.arn,
          aws_secretsmanager_secret.master_keys.arn, local.signing_keys,
        ]
      },
      {
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = [var.secrets_key_arn]
      },
    ]
  })
}
