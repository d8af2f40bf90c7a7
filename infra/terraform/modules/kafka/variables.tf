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

variable "kafka_version" {
  description = "Version of Kafka as MSK names it, without ZooKeeper."
  type        = string
  default     = "4.0.x.kraft"

  validation {
    condition     = can(regex("^[4-9]\\.[0-9]+\\.x(\\.kraft)?$", var.kafka_version))
    error_message = "kafka_version must be 4.0 or newer as MSK names it, such as 4.0.x.kraft."
  }
}

variable "brokers" {
  description = "Brokers: as many in each of the three zones."
  type        = number
  default     = 3

  validation {
    condition     = var.brokers >= 3 && var.brokers % 3 == 0
    error_message = "brokers must be 3, 6, 9 …: three copies of a partition lie in three zones."
  }
}

variable "instance_type" {
  description = "Size of a broker, such as kafka.m7g.large."
  type        = string

  validation {
    condition     = startswith(var.instance_type, "kafka.") && var.instance_type != "kafka.t3.small"
    error_message = "instance_type must be a type of MSK that takes logins by SCRAM, such as kafka.m7g.large."
  }
}

variable "storage_gib" {
  description = "Disk of each broker."
  type        = number

  validation {
    condition     = var.storage_gib >= 1 && var.storage_gib <= 16384
    error_message = "storage_gib must be from 1 to 16384."
  }
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

variable "secrets_key_arn" {
  description = "KMS key of the login: MSK takes no secret under AWS's own key."
  type        = string
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
