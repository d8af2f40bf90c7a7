output "host" {
  description = "Name of the service inside the cluster; its port is 19530."
  value       = "${local.name}-milvus.${var.namespace}.svc"

  depends_on = [helm_release.this]
}

output "user" {
  description = "Whom the platform logs in as."
  value       = "root"
}
