output "host" {
  description = "Name of the service inside the cluster; its port is 9200, by HTTPS."
  value       = "${local.name}-es-http.${var.namespace}.svc"

  depends_on = [helm_release.elasticsearch]
}

output "user" {
  description = "Whom the platform logs in as."
  value       = local.user
}

output "certificate_secret" {
  description = "Secret with the authority of its certificate, as ca.crt."
  value       = "${local.name}-es-http-certs-public"
}
