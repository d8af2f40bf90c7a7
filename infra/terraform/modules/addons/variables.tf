variable "cluster_name" {
  description = "The cluster."
  type        = string
}

variable "cluster_security_group_id" {
  description = "Security group of its nodes and pods."
  type        = string
}

variable "region" {
  description = "Where it is."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "zone_arn" {
  description = "Zone in which ExternalDNS keeps the platform's name."
  type        = string
}

variable "disks_key_arn" {
  description = "KMS key of volumes."
  type        = string
}

variable "chart_versions" {
  description = "Exact versions of the charts: a new one is a change that is reviewed."
  type = object({
    keda                         = string
    external_secrets             = string
    aws_load_balancer_controller = string
  })

  validation {
    condition     = alltrue([for version in values(var.chart_versions) : can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+$", version))])
    error_message = "chart_versions must be exact, such as 2.17.2: no ranges, no \"latest\"."
  }
}
