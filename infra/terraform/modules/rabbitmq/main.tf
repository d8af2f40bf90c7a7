# RabbitMQ by Amazon MQ. The platform declares its exchanges and quorum queues itself
# (`dispatch/rabbitmq_topology.py`); their three copies need the cluster of three nodes.

resource "aws_security_group" "this" {
  name_prefix = "${var.name}-rabbitmq-"
  description = "RabbitMQ: AMQP over TLS and its console, from the cluster"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-rabbitmq" }

  lifecycle {
    create_before_destroy = true
  }
}

# 443 is the management API, where KEDA reads the depth of a lane.
resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = { amqps = 5671, https = 443 }

  security_group_id            = aws_security_group.this.id
  description                  = "Pods of the cluster: ${each.key}"
  referenced_security_group_id = var.client_security_group_id
  from_port                    = each.value
  to_port                      = each.value
  ip_protocol                  = "tcp"
}

# Amazon MQ has no other way to be told a password: it stands in the state, which is encrypted.
resource "random_password" "login" {
  length  = 40
  special = false

  keepers = { rotation = var.password_version }
}

locals {
  user     = "meshwright"
  clusters = var.deployment_mode == "CLUSTER_MULTI_AZ"
}

resource "aws_mq_broker" "this" {
  broker_name                = var.name
  engine_type                = "RabbitMQ"
  engine_version             = var.engine_version
  host_instance_type         = var.instance_type
  deployment_mode            = var.deployment_mode
  subnet_ids                 = local.clusters ? var.subnet_ids : slice(var.subnet_ids, 0, 1)
  security_groups            = [aws_security_group.this.id]
  publicly_accessible        = false
  auto_minor_version_upgrade = true
  apply_immediately          = false

  user {
    username = local.user
    password = random_password.login.result
  }

  encryption_options {
    use_aws_owned_key = false
    kms_key_id        = var.data_key_arn
  }

  logs {
    general = true
  }

  maintenance_window_start_time {
    day_of_week = "SUNDAY"
    time_of_day = "03:30"
    time_zone   = "UTC"
  }
}
