variable "name" {
  description = "Beginning of every name, such as meshwright-prod."
  type        = string
}

variable "bucket" {
  description = "Bucket of the segments: one in the world has the name."
  type        = string
}

variable "logs_bucket" {
  description = "Bucket of access logs."
  type        = string
}

variable "namespace" {
  description = "Namespace of the stores; it must exist."
  type        = string
}

variable "chart_version" {
  description = "Version of the chart milvus."
  type        = string
}

variable "replicas" {
  description = "Nodes that answer searches: 1 for trying things, or 2 and more."
  type        = number

  validation {
    condition     = var.replicas >= 1
    error_message = "replicas must be 1 or more."
  }
}

variable "storage_class" {
  description = "StorageClass of etcd's and Pulsar's disks."
  type        = string
}

variable "oidc_provider_arn" {
  description = "Who vouches for service accounts at IAM."
  type        = string
}

variable "oidc_issuer" {
  description = "The issuer without https://."
  type        = string
}

variable "data_key_arn" {
  description = "KMS key of the segments."
  type        = string
}

variable "password" {
  description = "Password of Milvus's root; never in the state."
  type        = string
  ephemeral   = true
}

variable "password_version" {
  description = "Another number writes the password anew. Milvus reads it at its first start alone."
  type        = number
}
