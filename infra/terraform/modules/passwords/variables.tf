variable "name" {
  description = "Beginning of the secret's name, such as meshwright-prod."
  type        = string
}

variable "rotation" {
  description = "Another number makes other passwords."
  type        = number
  default     = 1

  validation {
    condition     = var.rotation >= 1 && floor(var.rotation) == var.rotation
    error_message = "rotation must be 1, 2, 3 …: add one to rotate."
  }
}

variable "secrets_key_arn" {
  description = "KMS key of the secret."
  type        = string
}
