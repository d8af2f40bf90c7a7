# Keys of our own, so that who may read the data is said here and seen in CloudTrail. One for what
# the stores keep, one for the secrets, one for logs: who reads logs needs no data.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account    = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.region
  everything = "arn:${local.partition}:iam::${local.account}:root"

  # IAM policies of the account decide; without this statement nobody could ever change the key.
  account_decides = {
    Sid       = "AccountDecides"
    Effect    = "Allow"
    Principal = { AWS = local.everything }
    Action    = "kms:*"
    Resource  = "*"
  }
  logs_may_use = {
    Sid       = "LogsMayUse"
    Effect    = "Allow"
    Principal = { Service = "logs.${local.region}.amazonaws.com" }
    Action    = ["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"]
    Resource  = "*"
    Condition = {
      ArnLike = {
        "kms:EncryptionContext:aws:logs:arn" = "arn:${local.partition}:logs:${local.region}:${local.account}:*"
      }
    }
  }
  # Volumes of nodes and of claims are encrypted by the autoscaling group's own role.
  autoscaling_may_use = {
    Sid    = "AutoscalingMayUse"
    Effect = "Allow"
    Principal = {
      AWS = "arn:${local.partition}:iam::${local.account}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
    }
    Action   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey", "kms:CreateGrant"]
    Resource = "*"
  }

  statements = {
    data    = [local.account_decides]
    secrets = [local.account_decides]
    logs    = [local.account_decides, local.logs_may_use]
    disks   = [local.account_decides, local.autoscaling_may_use]
  }
}

resource "aws_kms_key" "this" {
  for_each = toset(["data", "secrets", "logs", "disks"])

  description             = "${var.name}: ${each.key}"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = local.statements[each.key]
  })
}

resource "aws_kms_alias" "this" {
  for_each = aws_kms_key.this

  name          = "alias/${var.name}-${each.key}"
  target_key_id = each.value.key_id
}
