variable "name" {
  description = "Beginning of every name, such as meshwright-prod."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket: one in the world has it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,56}[a-z0-9]$", var.bucket))
    error_message = "bucket must be 3 to 58 lower-case letters, digits or dashes; its logs are kept in <bucket>-logs."
  }
}

variable "old_version_days" {
  description = "Days that a deleted or replaced object can be had back: as many as backups are kept."
  type        = number
  default     = 30

  validation {
    condition     = var.old_version_days >= 1 && var.old_version_days <= 365
    error_message = "old_version_days must be from 1 to 365: what a tenant erased must be gone some day."
  }
}

variable "log_days" {
  description = "Days that the bucket's access logs are kept."
  type        = number
  default     = 180
}

variable "data_key_arn" {
  description = "KMS key of the objects."
  type        = string
}

variable "cluster_name" {
  description = "The cluster whose pods use the objects."
  type        = string
}

variable "namespace" {
  description = "Namespace of the platform."
  type        = string
}

variable "service_accounts" {
  description = "Service accounts that may use the objects."
  type        = set(string)
}
