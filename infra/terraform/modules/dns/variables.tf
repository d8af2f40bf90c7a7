variable "zone" {
  description = "Zone of Route 53 that exists, such as example.com."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.zone))
    error_message = "zone must be a domain without a dot at its end, such as example.com."
  }
}

variable "host" {
  description = "Name of the platform, such as meshwright.example.com."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.host)) && endswith(var.host, ".${var.zone}")
    error_message = "host must be a name below the zone, such as meshwright.example.com in example.com."
  }
}
