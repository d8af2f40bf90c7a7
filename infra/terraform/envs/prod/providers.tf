provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = {
      Application = "meshwright"
      Environment = local.environment
      ManagedBy   = "terraform"
      CostCenter  = var.cost_center
    }
  }
}

# A token of a few minutes, by whoever runs this: nothing to keep.
locals {
  login = {
    api_version = "client.authentication.k8s.io/v1"
    command     = "aws"
    args        = ["eks", "get-token", "--cluster-name", module.platform.cluster.name, "--region", var.region]
  }
}

provider "helm" {
  kubernetes = {
    host                   = module.platform.cluster.endpoint
    cluster_ca_certificate = base64decode(module.platform.cluster.certificate_authority)
    exec                   = local.login
  }
}

provider "kubernetes" {
  host                   = module.platform.cluster.endpoint
  cluster_ca_certificate = base64decode(module.platform.cluster.certificate_authority)

  exec {
    api_version = local.login.api_version
    command     = local.login.command
    args        = local.login.args
  }
}
