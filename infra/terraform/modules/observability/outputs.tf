output "otlp_endpoint" {
  description = "Where processes send traces: MESHWRIGHT_TELEMETRY__OTLP_ENDPOINT."
  value       = "http://${local.collector}.${local.namespace}.svc:4318"
}

output "alarms_topic_arn" {
  description = "Topic of alarms."
  value       = aws_sns_topic.alarms.arn
}
