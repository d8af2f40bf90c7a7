variable "name" {
  description = "Beginning of every name, such as meshwright-prod."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,23}$", var.name))
    error_message = "name must be 3 to 24 lower-case letters, digits or dashes, a letter first."
  }
}
