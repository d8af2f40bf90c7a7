output "certificate_arn" {
  description = "The certificate, once it is valid: for the Ingress."
  value       = aws_acm_certificate_validation.this.certificate_arn
}

output "host" {
  description = "Name of the platform."
  value       = var.host
}

output "zone_arn" {
  description = "The zone: ExternalDNS may change it."
  value       = data.aws_route53_zone.this.arn
}
