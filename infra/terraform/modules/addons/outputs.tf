output "stores_namespace" {
  description = "Namespace of the stores that run on the cluster."
  value       = kubernetes_namespace_v1.stores.metadata[0].name
}

output "storage_class" {
  description = "StorageClass of encrypted disks."
  value       = kubernetes_storage_class_v1.encrypted.metadata[0].name
}

output "secret_reader_role_name" {
  description = "IAM role of External Secrets: the secrets that it may read are added to it."
  value       = aws_iam_role.this["external-secrets"].name
}
