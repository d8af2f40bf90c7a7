# Alarms about the stores that Prometheus does not see. Each has its runbook in docs/runbooks/.

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = "alias/aws/sns"
}

resource "aws_sns_topic_subscription" "alarms" {
  for_each = var.alarm_addresses

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = startswith(each.value, "https://") ? "https" : "email"
  endpoint  = each.value
}

locals {
  gibibyte = 1024 * 1024 * 1024

  # Worse than the threshold for `minutes`.
  alarms = {
    postgres-storage = {
      namespace = "AWS/RDS", metric = "FreeStorageSpace", statistic = "Minimum"
      below     = true, threshold = 20 * local.gibibyte, minutes = 10
      says      = "PostgreSQL has less than 20 GiB left: it stops when there is none."
      of        = { DBInstanceIdentifier = var.stores.postgres }
    }
    postgres-cpu = {
      namespace = "AWS/RDS", metric = "CPUUtilization", statistic = "Average"
      below     = false, threshold = 85, minutes = 15
      says      = "PostgreSQL is busy above 85 % for 15 minutes."
      of        = { DBInstanceIdentifier = var.stores.postgres }
    }
    redis-memory = {
      namespace = "AWS/ElastiCache", metric = "DatabaseMemoryUsagePercentage", statistic = "Maximum"
      below     = false, threshold = 80, minutes = 5
      says      = "Valkey is 80 % full: it evicts nothing and refuses writes when it is full."
      of        = { ReplicationGroupId = var.stores.redis }
    }
    kafka-offline-partitions = {
      namespace = "AWS/Kafka", metric = "OfflinePartitionsCount", statistic = "Maximum"
      below     = false, threshold = 0, minutes = 2
      says      = "Kafka has partitions without a leader: events wait in the outbox."
      of        = { "Cluster Name" = var.stores.kafka }
    }
    rabbitmq-alarm = {
      namespace = "AWS/AmazonMQ", metric = "RabbitMQMemUsed", statistic = "Maximum"
      below     = false, threshold = var.rabbitmq_memory_gib * local.gibibyte * 0.35, minutes = 5
      says      = "RabbitMQ comes near the memory at which it blocks publishers (40 %)."
      of        = { Broker = var.stores.rabbitmq }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "stores" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.of
  statistic           = each.value.statistic
  comparison_operator = each.value.below ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = each.value.minutes
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
