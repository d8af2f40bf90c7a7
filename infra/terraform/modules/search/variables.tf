variable "namespace" {
  description = "Namespace of the stores; it must exist."
  type        = string
}

variable "operator_chart_version" {
  description = "Version of the chart eck-operator."
  type        = string
}

variable "elasticsearch_version" {
  description = "Version of Elasticsearch; the platform speaks that of 8."
  type        = string
  default     = "8.19.3"

  validation {
    condition     = can(regex("^8\\.[0-9]+\\.[0-9]+$", var.elasticsearch_version))
    error_message = "elasticsearch_version must be 8.x.y: the platform's client speaks to Elasticsearch 8."
  }
}

variable "nodes" {
  description = "Nodes, each in another zone as far as they go: 1 for trying things, or 3 and more."
  type        = number

  validation {
    condition     = var.nodes == 1 || var.nodes >= 3
    error_message = "nodes must be 1, or 3 and more: two cannot agree on who leads."
  }
}

variable "cpu" {
  description = "CPU that each node asks for."
  type        = string
  default     = "2"
}

variable "memory" {
  description = "Memory of each node; half of it is its heap."
  type        = string
  default     = "8Gi"
}

variable "storage" {
  description = "Disk of each node."
  type        = string
}

variable "storage_class" {
  description = "StorageClass of the disks."
  type        = string
}

variable "password" {
  description = "Password of the platform; never in the state."
  type        = string
  ephemeral   = true
}

variable "password_version" {
  description = "Another number writes the password anew."
  type        = number
}
