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

variable "engine_version" {
  description = "Version of RabbitMQ as Amazon MQ names it; patches come by themselves."
  type        = string
  default     = "4.2"

  validation {
    condition     = can(regex("^4\\.[0-9]+$", var.engine_version))
    error_message = "engine_version must be 4.x: quorum queues are complete there."
  }
}

variable "instance_type" {
  description = "Size of a node. RabbitMQ 4 runs on mq.m7g alone."
  type        = string

  validation {
    condition     = startswith(var.instance_type, "mq.m7g.")
    error_message = "instance_type must be of the family mq.m7g, which RabbitMQ 4 needs at Amazon MQ."
  }
}

variable "deployment_mode" {
  description = "CLUSTER_MULTI_AZ: three nodes in three zones. SINGLE_INSTANCE: one, for trying things."
  type        = string
  default     = "CLUSTER_MULTI_AZ"

  validation {
    condition     = contains(["CLUSTER_MULTI_AZ", "SINGLE_INSTANCE"], var.deployment_mode)
    error_message = "deployment_mode must be CLUSTER_MULTI_AZ or SINGLE_INSTANCE."
  }
}

variable "password_version" {
  description = "Another number makes another password."
  type        = number
  default     = 1
}

variable "data_key_arn" {
  description = "KMS key of what is stored."
  type        = string
}
