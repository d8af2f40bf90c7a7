variable "name" {
  description = "Beginning of every name, such as meshwright-prod."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of stores, one in each zone."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "Security group of whoever may connect: that of the cluster."
  type        = string
}

variable "node_type" {
  description = "Size of a node, such as cache.r7g.large."
  type        = string

  validation {
    condition     = startswith(var.node_type, "cache.")
    error_message = "node_type must be a type of ElastiCache, such as cache.r7g.large."
  }
}

variable "nodes" {
  description = "Nodes, each in another zone: one that writes, the others follow. One alone has no failover."
  type        = number

  validation {
    condition     = var.nodes >= 1 && var.nodes <= 6
    error_message = "nodes must be from 1 to 6."
  }
}

variable "snapshot_days" {
  description = "Days that snapshots are kept: for looking into things, nothing needs them to go on."
  type        = number
  default     = 3
}

variable "token_version" {
  description = "Another number makes another token."
  type        = number
  default     = 1
}

variable "log_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 30
}

variable "data_key_arn" {
  description = "KMS key of what is stored."
  type        = string
}

variable "logs_key_arn" {
  description = "KMS key of log groups."
  type        = string
}
