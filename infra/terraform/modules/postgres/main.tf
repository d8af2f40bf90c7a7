# PostgreSQL by RDS: the only copy of anything that must not be lost (ARCHITECTURE.md, principle 4).
# A standby in a second zone has every commit before it is acknowledged.

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "this" {
  name_prefix = "${var.name}-postgres-"
  description = "PostgreSQL: its port, from the cluster"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-postgres" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  security_group_id            = aws_security_group.this.id
  description                  = "Pods of the cluster"
  referenced_security_group_id = var.client_security_group_id
  from_port                    = 5432
  to_port                      = 5432
  ip_protocol                  = "tcp"
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "postgres${var.engine_version}"
  description = "What Meshwright asks of PostgreSQL"

  # Nobody without TLS.
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  # fsync and full_page_writes are on and cannot be turned off at RDS.
  dynamic "parameter" {
    for_each = local.parameters

    content {
      name         = parameter.key
      value        = parameter.value
      apply_method = contains(local.static, parameter.key) ? "pending-reboot" : "immediate"
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  parameters = {
    "password_encryption"               = "scram-sha-256"
    "rds.accepted_password_auth_method" = "scram"
    # A commit that was acknowledged is on the disk, here and in the other zone.
    "synchronous_commit" = "on"
    # Services set statement_timeout and lock_timeout themselves; this ends what they forgot.
    "idle_in_transaction_session_timeout" = "10000"
    # Shorter than the services' lock_timeout of 1 s: a deadlock is told apart from a busy lock.
    "deadlock_timeout" = "200"
    # A client that is gone is noticed within 30 + 3 × 10 s.
    "tcp_keepalives_idle"     = "30"
    "tcp_keepalives_interval" = "10"
    "tcp_keepalives_count"    = "3"
    "max_connections"         = tostring(var.max_connections)
    # Slow statements by their text, never with what they carry.
    "log_min_duration_statement"        = "1000"
    "log_parameter_max_length"          = "0"
    "log_parameter_max_length_on_error" = "0"
    "log_lock_waits"                    = "1"
    "log_statement"                     = "ddl"
    "log_connections"                   = "1"
    "log_disconnections"                = "1"
    "track_io_timing"                   = "1"
    "shared_preload_libraries"          = "pg_stat_statements"
  }
  static = ["max_connections", "shared_preload_libraries"]
}

resource "aws_db_instance" "this" {
  # checkov:skip=CKV_AWS_157: a variable that only envs/dev turns off; a test plans prod with it
  # checkov:skip=CKV_AWS_293: a variable that only envs/dev turns off; a test plans prod with it
  identifier     = var.name
  engine         = "postgres"
  engine_version = var.engine_version
  instance_class = var.instance_class
  port           = 5432

  # Made, kept and rotated by RDS in Secrets Manager: neither here nor in the state.
  username                      = "meshwright_admin"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = var.secrets_key_arn

  multi_az               = var.multi_az
  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this.id]
  publicly_accessible    = false
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  storage_type          = "gp3"
  allocated_storage     = var.storage_gib
  max_allocated_storage = var.maximum_storage_gib
  storage_encrypted     = true
  kms_key_id            = var.data_key_arn

  # Any second of these days can be restored.
  backup_retention_period  = var.backup_days
  backup_window            = "02:00-03:00"
  maintenance_window       = "sun:03:30-sun:04:30"
  copy_tags_to_snapshot    = true
  delete_automated_backups = false
  deletion_protection      = var.deletion_protection

  skip_final_snapshot       = !var.deletion_protection
  final_snapshot_identifier = var.deletion_protection ? "${var.name}-final" : null

  parameter_group_name                = aws_db_parameter_group.this.name
  auto_minor_version_upgrade          = true
  allow_major_version_upgrade         = false
  apply_immediately                   = false
  iam_database_authentication_enabled = true

  performance_insights_enabled          = true
  performance_insights_kms_key_id       = var.data_key_arn
  performance_insights_retention_period = 7
  monitoring_interval                   = 60
  monitoring_role_arn                   = aws_iam_role.monitoring.arn
  enabled_cloudwatch_logs_exports       = ["postgresql", "upgrade"]

  depends_on = [aws_cloudwatch_log_group.this]
}

resource "aws_cloudwatch_log_group" "this" {
  for_each = toset(["postgresql", "upgrade"])

  name              = "/aws/rds/instance/${var.name}/${each.key}"
  retention_in_days = var.log_days
  kms_key_id        = var.logs_key_arn
}

resource "aws_iam_role" "monitoring" {
  name_prefix = "${var.name}-rds-"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "monitoring.rds.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

data "aws_partition" "current" {}
