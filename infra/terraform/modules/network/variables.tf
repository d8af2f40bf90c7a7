variable "name" {
  description = "Beginning of every name, such as meshwright-prod."
  type        = string
}

variable "cidr" {
  description = "Addresses of the network: a private /16."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "cidr must be a /16, such as 10.20.0.0/16: pods have addresses of their own."
  }

  validation {
    condition     = can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.)", var.cidr))
    error_message = "cidr must be of a private range (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16)."
  }
}

variable "zones" {
  description = "The three availability zones, by name: written down, so that a new one at AWS changes nothing here."
  type        = list(string)

  validation {
    condition     = length(var.zones) == 3 && length(distinct(var.zones)) == 3
    error_message = "zones must be three different ones: quorums of Kafka, RabbitMQ and Elasticsearch count on it."
  }
}

variable "single_nat_gateway" {
  description = "One NAT gateway for all zones: cheaper, and a zone that fails takes the way out with it."
  type        = bool
  default     = false
}

variable "flow_log_days" {
  description = "Days that flow logs are kept."
  type        = number
  default     = 180

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.flow_log_days)
    error_message = "flow_log_days must be a retention that CloudWatch knows: 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731."
  }
}

variable "logs_key_arn" {
  description = "KMS key of log groups."
  type        = string
}
