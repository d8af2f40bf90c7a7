output "host" {
  description = "Name of the server; after a failover it is the other one's."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "Its port."
  value       = aws_db_instance.this.port
}

output "administrator_secret_arn" {
  description = "Secret of the administrator, for `meshwright migrate --bootstrap` alone."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "identifier" {
  description = "The instance, as CloudWatch names it."
  value       = aws_db_instance.this.identifier
}
