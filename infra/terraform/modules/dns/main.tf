# The name that users know, and its certificate. The zone exists already: it belongs to the company,
# not to this installation. The record itself is made by ExternalDNS when the Ingress has an address.

data "aws_route53_zone" "this" {
  name         = var.zone
  private_zone = false
}

resource "aws_acm_certificate" "this" {
  domain_name       = var.host
  validation_method = "DNS"
  key_algorithm     = "EC_prime256v1"

  tags = { Name = var.host }

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  # One name, one proof.
  proof = one([
    for option in aws_acm_certificate.this.domain_validation_options : option
    if option.domain_name == var.host
  ])
}

resource "aws_route53_record" "validation" {
  zone_id         = data.aws_route53_zone.this.zone_id
  name            = local.proof.resource_record_name
  type            = local.proof.resource_record_type
  records         = [local.proof.resource_record_value]
  ttl             = 300
  allow_overwrite = true
}

# Whoever is not Amazon may make no certificate of this name.
resource "aws_route53_record" "authorities" {
  zone_id = data.aws_route53_zone.this.zone_id
  name    = var.host
  type    = "CAA"
  ttl     = 3600
  records = ["0 issue \"amazon.com\"", "0 issuewild \";\""]
}

resource "aws_acm_certificate_validation" "this" {
  certificate_arn         = aws_acm_certificate.this.arn
  validation_record_fqdns = [aws_route53_record.validation.fqdn]

  depends_on = [aws_route53_record.authorities]
}
