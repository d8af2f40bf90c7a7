variable "name" {
  description = "Beginning of the secrets' names, such as meshwright-prod."
  type        = string
}

variable "secrets" {
  description = "Value by environment variable, logins included."
  type        = map(string)
  ephemeral   = true
  sensitive   = true

  validation {
    condition     = alltrue([for key in keys(var.secrets) : startswith(key, "MESHWRIGHT_")])
    error_message = "secrets must be named as the platform reads them: MESHWRIGHT_SECTION__FIELD."
  }
}

variable "keda" {
  description = "What KEDA's scaler for Kafka asks for: bootstrapServers, username, password."
  type        = map(string)
  ephemeral   = true
  sensitive   = true
}

variable "hosts" {
  description = "The hosts in `secrets`: another one writes the secret anew."
  type        = list(string)
}

variable "rotation" {
  description = "The same as that of the passwords."
  type        = number
}

variable "reader_role_name" {
  description = "IAM role of External Secrets."
  type        = string
}

variable "secrets_key_arn" {
  description = "KMS key of the secrets."
  type        = string
}
