# Alarms about the stores that Prometheus does not see.

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
    kafka-offline-partitions = {
      namespace = "AWS/Kafka", metric = "OfflinePartitionsCount", statistic = "Maximum"
      below     = false, threshold = 0, minutes = 2
      says      = "Kafka has partitions without a leader: events wait in the outbox."
      of        = { "Cluster Name" = var.stores.kafka }
    }
    rabbitmq-messages = {
      namespace = "AWS/AmazonMQ", metric = "MessageCount", statistic = "Maximum"
      below     = false, threshold = 50000, minutes = 5
      says      = "RabbitMQ holds 50 000 messages: a queue refuses more at 100 000."
      of        = { Broker = var.stores.rabbitmq }
    }
  }

  # By node: any of them may become the one that writes.
  redis_alarms = {
    for node in var.stores.redis_nodes : "redis-memory-${node}" => {
      namespace = "AWS/ElastiCache", metric = "DatabaseMemoryUsagePercentage", statistic = "Maximum"
      below     = false, threshold = 80, minutes = 5
      says      = "Valkey is 80 % full: it evicts nothing and refuses writes when it is full."
      of        = { CacheClusterId = node }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "stores" {
  for_each = merge(local.alarms, local.redis_alarms)

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
