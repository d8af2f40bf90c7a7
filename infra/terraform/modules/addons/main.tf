# What the manifests of infra/k8s need in a cluster: load balancers for Ingresses, secrets from Secrets
# Manager, scaling by queues, names, encrypted volumes, a namespace for the stores.

data "aws_partition" "current" {}

resource "kubernetes_namespace_v1" "stores" {
  metadata {
    name = "meshwright-stores"
  }
}

resource "kubernetes_storage_class_v1" "encrypted" {
  metadata {
    name = "encrypted"
  }

  storage_provisioner    = "ebs.csi.aws.com"
  reclaim_policy         = "Retain"
  volume_binding_mode    = "WaitForFirstConsumer"
  allow_volume_expansion = true

  parameters = {
    type      = "gp3"
    encrypted = "true"
    kmsKeyId  = var.disks_key_arn
  }
}

resource "helm_release" "keda" {
  name             = "keda"
  repository       = "https://kedacore.github.io/charts"
  chart            = "keda"
  version          = var.chart_versions.keda
  namespace        = "keda"
  create_namespace = true
  atomic           = true

  values = [yamlencode({
    operator      = { replicaCount = 2 }
    metricsServer = { replicaCount = 2 }
  })]
}

resource "helm_release" "external_secrets" {
  name             = "external-secrets"
  repository       = "https://charts.external-secrets.io"
  chart            = "external-secrets"
  version          = var.chart_versions.external_secrets
  namespace        = "external-secrets"
  create_namespace = true
  atomic           = true

  values = [yamlencode({
    installCRDs    = true
    replicaCount   = 2
    leaderElect    = true
    serviceAccount = { name = "external-secrets" }
  })]

  depends_on = [aws_eks_pod_identity_association.this]
}

resource "helm_release" "load_balancers" {
  name       = "aws-load-balancer-controller"
  repository = "https://aws.github.io/eks-charts"
  chart      = "aws-load-balancer-controller"
  version    = var.chart_versions.aws_load_balancer_controller
  namespace  = "kube-system"
  atomic     = true

  values = [yamlencode({
    clusterName    = var.cluster_name
    region         = var.region
    vpcId          = var.vpc_id
    replicaCount   = 2
    serviceAccount = { create = true, name = "aws-load-balancer-controller" }
  })]

  depends_on = [aws_eks_pod_identity_association.this]
}

resource "aws_eks_addon" "external_dns" {
  cluster_name                = var.cluster_name
  addon_name                  = "external-dns"
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  # upsert-only: it never removes a name, also when an Ingress is deleted by mistake.
  configuration_values = jsonencode({
    policy     = "upsert-only"
    txtOwnerId = var.cluster_name
  })

  pod_identity_association {
    service_account = "external-dns"
    role_arn        = aws_iam_role.this["external-dns"].arn
  }
}
