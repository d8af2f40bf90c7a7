output "name" {
  description = "The cluster."
  value       = aws_eks_cluster.this.name

  # Whoever uses the cluster by this name needs nodes that work.
  depends_on = [aws_eks_addon.after_nodes, aws_eks_access_policy_association.administrators]
}

output "endpoint" {
  description = "Address of its API."
  value       = aws_eks_cluster.this.endpoint
}

output "certificate_authority" {
  description = "Authority of its API's certificate, PEM in base64."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "security_group_id" {
  description = "Security group of every node and pod: stores let it in."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "oidc_provider_arn" {
  description = "Who vouches for service accounts at IAM."
  value       = aws_iam_openid_connect_provider.this.arn
}

output "oidc_issuer" {
  description = "The issuer's address without https://, as conditions of IAM name it."
  value       = trimprefix(aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://")
}
