variable "name" {
  description = "Name of the instance, such as meshwright-prod."
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

variable "engine_version" {
  description = "Major version of PostgreSQL; minor ones come by themselves."
  type        = string
  default     = "17"

  validation {
    condition     = can(regex("^1[5-8]$", var.engine_version))
    error_message = "engine_version must be a major version from 15 to 18; 17 is the first that ends transactions that are too long."
  }
}

variable "instance_class" {
  description = "Size of the instance, such as db.r7g.xlarge."
  type        = string

  validation {
    condition     = startswith(var.instance_class, "db.")
    error_message = "instance_class must be a class of RDS, such as db.r7g.xlarge."
  }
}

variable "storage_gib" {
  description = "Size of the disk at first. From 400 GiB on, gp3 brings 12 000 writes a second with it."
  type        = number

  validation {
    condition     = var.storage_gib >= 20
    error_message = "storage_gib must be 20 or more."
  }
}

variable "maximum_storage_gib" {
  description = "What the disk may grow to by itself."
  type        = number

  validation {
    condition     = var.maximum_storage_gib > var.storage_gib
    error_message = "maximum_storage_gib must be more than storage_gib: a full disk stops the platform."
  }
}

variable "max_connections" {
  description = "Connections: 10 for each replica of each service with tables, and some for people."
  type        = number
  default     = 500

  validation {
    condition     = var.max_connections >= 100 && var.max_connections <= 5000
    error_message = "max_connections must be from 100 to 5000."
  }
}

variable "multi_az" {
  description = "A standby in a second zone, which has every commit before it is acknowledged."
  type        = bool
  default     = true
}

variable "backup_days" {
  description = "Days back that any second can be restored."
  type        = number
  default     = 30

  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "backup_days must be from 1 to 35, which is RDS's limit."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the instance, and take a last snapshot when it is deleted all the same."
  type        = bool
  default     = true
}

variable "log_days" {
  description = "Days that the server's logs are kept."
  type        = number
  default     = 30
}

variable "data_key_arn" {
  description = "KMS key of the disk, of backups and of Performance Insights."
  type        = string
}

variable "secrets_key_arn" {
  description = "KMS key of the administrator's password."
  type        = string
}

variable "logs_key_arn" {
  description = "KMS key of log groups."
  type        = string
}
