variable "region" {
  description = "Region of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be a region of AWS, such as eu-central-1."
  }
}

variable "zones" {
  description = "Three availability zones of the region, by name."
  type        = list(string)

  validation {
    condition     = alltrue([for zone in var.zones : startswith(zone, var.region)])
    error_message = "zones must be of the region, such as eu-central-1a, eu-central-1b and eu-central-1c."
  }
}

variable "account_id" {
  description = "The account that this may touch; with the login of another one it refuses to run."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be the 12 digits of an AWS account."
  }
}

variable "cost_center" {
  description = "Who pays: a tag on everything."
  type        = string
  default     = "platform"
}

variable "bucket_prefix" {
  description = "Beginning of the buckets' names, which are unique in the world: the company's."
  type        = string
}

variable "zone" {
  description = "Zone of Route 53 that exists, such as example.com."
  type        = string
}

variable "host" {
  description = "Name of the platform in it, such as meshwright.example.com."
  type        = string
}

variable "administrators" {
  description = "Roles that administer the cluster, by a name for each; the one that runs this is among them."
  type        = map(string)
}

variable "public_access_cidrs" {
  description = "Networks that may reach the API of Kubernetes from outside. None: only the network itself (VPN, peering)."
  type        = list(string)
  default     = []
}

variable "alarm_addresses" {
  description = "Who is told of alarms about stores: e-mail addresses, or https:// addresses of a pager."
  type        = set(string)
}

variable "password_rotation" {
  description = "Add one to make all passwords anew; read docs/terraform.md before."
  type        = number
  default     = 1
}
