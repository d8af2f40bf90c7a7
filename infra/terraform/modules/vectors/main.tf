# Milvus on the cluster, by its chart: segments in S3, their index of what exists in etcd, new rows in
# Pulsar until they are segments. All three are its own.

data "aws_region" "current" {}

resource "aws_s3_bucket" "this" {
  bucket        = var.bucket
  force_destroy = false
}

resource "aws_s3_bucket_logging" "this" {
  bucket        = aws_s3_bucket.this.id
  target_bucket = var.logs_bucket
  target_prefix = "vectors/"
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.data_key_arn
    }
  }
}

# Vectors are made again from the passages in PostgreSQL: a week of old versions is enough.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "old-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = 7
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })

  depends_on = [aws_s3_bucket_public_access_block.this]
}

# By OpenID Connect: Milvus's S3 client knows no Pod Identity.
resource "aws_iam_role" "this" {
  name_prefix = "${var.name}-vectors-"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = var.oidc_provider_arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "${var.oidc_issuer}:aud" = "sts.amazonaws.com"
          "${var.oidc_issuer}:sub" = "system:serviceaccount:${var.namespace}:${local.service_account}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = "use-segments"
  role = aws_iam_role.this.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["s3:ListBucket", "s3:GetBucketLocation"]
        Resource = [aws_s3_bucket.this.arn]
      },
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        Resource = ["${aws_s3_bucket.this.arn}/*"]
      },
      {
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = [var.data_key_arn]
      },
    ]
  })
}

locals {
  name            = "vectors"
  service_account = "milvus"
  on_stores = {
    nodeSelector = { "meshwright.io/nodes" = "stores" }
    tolerations  = [{ key = "meshwright.io/nodes", operator = "Equal", value = "stores", effect = "NoSchedule" }]
  }
}

resource "helm_release" "this" {
  name       = local.name
  repository = "https://zilliztech.github.io/milvus-helm"
  chart      = "milvus"
  version    = var.chart_version
  namespace  = var.namespace
  # Data lies in its volumes: a change that fails is looked at, not taken back.
  atomic  = false
  timeout = 1800

  values = [yamlencode({
    cluster = { enabled = true }
    global  = { storageClass = var.storage_class }

    nodeSelector = local.on_stores.nodeSelector
    tolerations  = local.on_stores.tolerations

    serviceAccount = {
      create      = true
      name        = local.service_account
      annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.this.arn }
    }

    minio = { enabled = false }
    externalS3 = {
      enabled       = true
      host          = "s3.${data.aws_region.current.region}.amazonaws.com"
      port          = "443"
      useSSL        = true
      bucketName    = aws_s3_bucket.this.bucket
      rootPath      = "milvus"
      useIAM        = true
      cloudProvider = "aws"
      region        = data.aws_region.current.region
    }

    etcd = merge(local.on_stores, { replicaCount = var.replicas == 1 ? 1 : 3 })

    queryNode = { replicas = var.replicas }
    proxy     = { replicas = var.replicas }
  })]

  # The password of root, read when Milvus first starts; not in the state.
  set_wo = [{
    name  = "extraConfigFiles.user\\.yaml"
    value = yamlencode({ common = { security = { authorizationEnabled = true, defaultRootPassword = var.password } } })
  }]
  set_wo_revision = var.password_version
}
