# Elasticsearch on the cluster, by Elastic's operator. Not Amazon OpenSearch: the platform's client is
# Elastic's, which refuses any server that does not say it is Elasticsearch.

resource "helm_release" "operator" {
  name             = "eck-operator"
  repository       = "https://helm.elastic.co"
  chart            = "eck-operator"
  version          = var.operator_chart_version
  namespace        = "elastic-system"
  create_namespace = true
  atomic           = true
}

# The login of the platform: the operator makes a user of it. Its password is not in the state.
resource "kubernetes_secret_v1" "login" {
  metadata {
    name      = "${local.name}-login"
    namespace = var.namespace
  }

  type = "kubernetes.io/basic-auth"

  data_wo = {
    username = local.user
    password = var.password
    roles    = local.role
  }
  data_wo_revision = var.password_version
}

resource "kubernetes_secret_v1" "roles" {
  metadata {
    name      = "${local.name}-roles"
    namespace = var.namespace
  }

  data = {
    "roles.yml" = yamlencode({
      (local.role) = {
        cluster = ["monitor"]
        indices = [{ names = ["meshwright-*"], privileges = ["all"] }]
      }
    })
  }
}

resource "helm_release" "elasticsearch" {
  name      = local.name
  chart     = "${path.module}/chart"
  namespace = var.namespace
  # Data lies in these volumes: a change that fails is looked at, not taken back.
  atomic  = false
  timeout = 1200

  values = [yamlencode({
    name         = local.name
    version      = var.elasticsearch_version
    nodes        = var.nodes
    memory       = var.memory
    cpu          = var.cpu
    storage      = var.storage
    storageClass = var.storage_class
    loginSecret  = kubernetes_secret_v1.login.metadata[0].name
    rolesSecret  = kubernetes_secret_v1.roles.metadata[0].name
  })]

  depends_on = [helm_release.operator]
}

locals {
  name = "search"
  user = "meshwright"
  role = "meshwright"
}
