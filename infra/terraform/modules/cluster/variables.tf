variable "name" {
  description = "Name of the cluster, such as meshwright-prod."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes."
  type        = string
  default     = "1.34"

  validation {
    condition     = can(regex("^1\\.(3[3-9]|[4-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version must be 1.33 or newer, without a patch: 1.34."
  }
}

variable "private_subnet_ids" {
  description = "Subnets of nodes and of the API's addresses: one in each of three zones."
  type        = list(string)

  validation {
    condition     = length(var.private_subnet_ids) == 3
    error_message = "private_subnet_ids must be three, one a zone: topology spread and stores count on it."
  }
}

variable "public_access_cidrs" {
  description = "Who may reach the API of Kubernetes from outside: none makes it private."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.public_access_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "public_access_cidrs must be networks such as 192.0.2.0/24, and never everybody (/0)."
  }
}

variable "administrators" {
  description = "Roles that administer the cluster, by a name for each: { deploy = \"arn:aws:iam::…:role/deploy\" }."
  type        = map(string)

  validation {
    condition     = length(var.administrators) > 0
    error_message = "administrators must name one role at least: the one that applies this, or Helm cannot install anything."
  }

  validation {
    condition     = alltrue([for arn in values(var.administrators) : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/", arn))])
    error_message = "administrators must be ARNs of IAM roles: arn:aws:iam::123456789012:role/NAME."
  }
}

variable "node_groups" {
  description = "Groups of nodes by name: sizes, kinds, and whether only what tolerates it runs there."
  type = map(object({
    instance_types = list(string)
    minimum        = number
    maximum        = number
    disk_gib       = optional(number, 100)
    ami_type       = optional(string, "AL2023_x86_64_STANDARD")
    spot           = optional(bool, false)
    tainted        = optional(bool, false)
  }))

  validation {
    condition     = alltrue([for group in values(var.node_groups) : group.minimum >= 1 && group.maximum >= group.minimum])
    error_message = "node_groups: minimum must be 1 or more and maximum at least the minimum."
  }

  validation {
    condition     = alltrue([for group in values(var.node_groups) : startswith(group.ami_type, "AL2023_")])
    error_message = "node_groups: ami_type must be of Amazon Linux 2023, such as AL2023_x86_64_STANDARD."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the cluster."
  type        = bool
  default     = true
}

variable "log_days" {
  description = "Days that logs of the control plane are kept."
  type        = number
  default     = 180
}

variable "secrets_key_arn" {
  description = "KMS key of Kubernetes' secrets."
  type        = string
}

variable "logs_key_arn" {
  description = "KMS key of log groups."
  type        = string
}

variable "disks_key_arn" {
  description = "KMS key of disks."
  type        = string
}
