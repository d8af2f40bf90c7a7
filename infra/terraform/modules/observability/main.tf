# Prometheus, Alertmanager and Grafana on the cluster; logs of pods to CloudWatch; traces to X-Ray.
# The rules and dashboards themselves are in infra/observability and come with infra/k8s.

locals {
  namespace = "monitoring"
}

resource "kubernetes_namespace_v1" "this" {
  metadata {
    name = local.namespace
  }
}

resource "kubernetes_secret_v1" "grafana" {
  metadata {
    name      = "grafana-login"
    namespace = kubernetes_namespace_v1.this.metadata[0].name
  }

  data_wo = {
    admin-user     = "admin"
    admin-password = var.grafana_password
  }
  data_wo_revision = var.password_version
}

resource "helm_release" "prometheus" {
  name       = "prometheus"
  repository = "https://prometheus-community.github.io/helm-charts"
  chart      = "kube-prometheus-stack"
  version    = var.chart_versions.kube_prometheus_stack
  namespace  = kubernetes_namespace_v1.this.metadata[0].name
  timeout    = 900

  values = [yamlencode({
    prometheus = {
      prometheusSpec = {
        replicas       = var.replicas
        retention      = "${var.metric_days}d"
        enableFeatures = ["exemplar-storage"]
        # Also what other charts and infra/k8s bring.
        ruleSelectorNilUsesHelmValues           = false
        serviceMonitorSelectorNilUsesHelmValues = false
        podMonitorSelectorNilUsesHelmValues     = false
        storageSpec = {
          volumeClaimTemplate = {
            spec = {
              storageClassName = var.storage_class
              accessModes      = ["ReadWriteOnce"]
              resources        = { requests = { storage = var.metric_storage } }
            }
          }
        }
      }
    }
    alertmanager = { alertmanagerSpec = { replicas = var.replicas } }
    grafana = {
      admin = { existingSecret = kubernetes_secret_v1.grafana.metadata[0].name }
      sidecar = {
        # Dashboards are ConfigMaps with this label, in any namespace.
        dashboards = { enabled = true, label = "grafana_dashboard", searchNamespace = "ALL" }
      }
    }
    # EKS shows none of these.
    kubeControllerManager = { enabled = false }
    kubeScheduler         = { enabled = false }
    kubeEtcd              = { enabled = false }
  })]
}

resource "helm_release" "collector" {
  name       = "otel-collector"
  repository = "https://open-telemetry.github.io/opentelemetry-helm-charts"
  chart      = "opentelemetry-collector"
  version    = var.chart_versions.opentelemetry_collector
  namespace  = kubernetes_namespace_v1.this.metadata[0].name
  atomic     = true

  values = [yamlencode({
    fullnameOverride = local.collector
    mode             = "deployment"
    replicaCount     = var.replicas
    # contrib has the exporter for X-Ray.
    image          = { repository = "otel/opentelemetry-collector-contrib" }
    serviceAccount = { create = true, name = local.collector }
    config = {
      exporters = { awsxray = { region = var.region, indexed_attributes = ["gen_ai.request.model", "gen_ai.operation.name"] } }
      service = {
        pipelines = {
          traces  = { receivers = ["otlp"], processors = ["memory_limiter", "batch"], exporters = ["awsxray"] }
          metrics = null
          logs    = null
        }
      }
    }
    ports = {
      jaeger-compact = { enabled = false }
      jaeger-thrift  = { enabled = false }
      jaeger-grpc    = { enabled = false }
      zipkin         = { enabled = false }
    }
  })]

  depends_on = [aws_eks_pod_identity_association.collector]
}

locals {
  collector = "otel-collector"
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name_prefix = "${var.name}-${each.key}-"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]
  })
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = local.roles

  role       = aws_iam_role.this[each.key].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.value}"
}

data "aws_partition" "current" {}

locals {
  roles = {
    traces = "AWSXRayDaemonWriteAccess"
    logs   = "CloudWatchAgentServerPolicy"
  }
}

resource "aws_eks_pod_identity_association" "collector" {
  cluster_name    = var.cluster_name
  namespace       = local.namespace
  service_account = local.collector
  role_arn        = aws_iam_role.this["traces"].arn
}

# The agent would make it itself, open to everybody's key and for ever.
resource "aws_cloudwatch_log_group" "pods" {
  name              = "/aws/containerinsights/${var.cluster_name}/application"
  retention_in_days = var.log_days
  kms_key_id        = var.logs_key_arn
}

resource "aws_eks_addon" "logs" {
  cluster_name                = var.cluster_name
  addon_name                  = "amazon-cloudwatch-observability"
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  pod_identity_association {
    service_account = "cloudwatch-agent"
    role_arn        = aws_iam_role.this["logs"].arn
  }

  depends_on = [aws_cloudwatch_log_group.pods]
}
