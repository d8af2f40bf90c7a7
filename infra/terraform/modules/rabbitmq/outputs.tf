output "host" {
  description = "Name of the broker; its port for AMQP over TLS is 5671."
  value       = trimsuffix(trimprefix(aws_mq_broker.this.instances[0].endpoints[0], "amqps://"), ":5671")
}

output "console" {
  description = "Address of the management API and console."
  value       = aws_mq_broker.this.instances[0].console_url
}

output "user" {
  description = "Whom the platform logs in as."
  value       = local.user
}

output "password" {
  description = "What it logs in with."
  value       = random_password.login.result
  sensitive   = true
}

output "identifier" {
  description = "The broker, as CloudWatch names it."
  value       = aws_mq_broker.this.broker_name
}
