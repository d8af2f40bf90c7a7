variable "name" {
  description = "Beginning of every name, such as meshwright-prod."
  type        = string
}

variable "region" {
  description = "Where traces go."
  type        = string
}

variable "cluster_name" {
  description = "The cluster."
  type        = string
}

variable "storage_class" {
  description = "StorageClass of Prometheus's disks."
  type        = string
}

variable "replicas" {
  description = "Copies of Prometheus, Alertmanager and the collector."
  type        = number
  default     = 2
}

variable "metric_days" {
  description = "Days that metrics are kept."
  type        = number
  default     = 30

  validation {
    condition     = var.metric_days >= 7
    error_message = "metric_days must be 7 or more: the error budgets look back that far."
  }
}

variable "metric_storage" {
  description = "Disk of each Prometheus."
  type        = string
  default     = "100Gi"
}

variable "log_days" {
  description = "Days that logs of pods are kept."
  type        = number
  default     = 30
}

variable "stores" {
  description = "Names of the stores as CloudWatch knows them."
  type = object({
    postgres    = string
    redis_nodes = list(string)
    kafka       = string
    rabbitmq    = string
  })
}

variable "alarm_addresses" {
  description = "Who is told of alarms: e-mail addresses, or https:// addresses of a pager."
  type        = set(string)

  validation {
    condition     = alltrue([for address in var.alarm_addresses : can(regex("^https://|^[^@ ]+@[^@ ]+$", address))])
    error_message = "alarm_addresses must be e-mail addresses or begin with https://."
  }
}

variable "grafana_password" {
  description = "Password of Grafana's administrator; never in the state."
  type        = string
  ephemeral   = true
}

variable "password_version" {
  description = "Another number writes the password anew."
  type        = number
}

variable "logs_key_arn" {
  description = "KMS key of log groups."
  type        = string
}

variable "chart_versions" {
  description = "Exact versions of the charts."
  type = object({
    kube_prometheus_stack   = string
    opentelemetry_collector = string
  })
}
