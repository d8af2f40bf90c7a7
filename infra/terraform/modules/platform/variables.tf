variable "name" {
  description = "Beginning of every name: meshwright- and the environment."
  type        = string

  validation {
    condition     = can(regex("^meshwright-[a-z0-9]{2,12}$", var.name))
    error_message = "name must be meshwright- and 2 to 12 lower-case letters or digits, such as meshwright-prod."
  }
}

variable "bucket_prefix" {
  description = "Beginning of the buckets' names, which are unique in the world: the company's."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,20}$", var.bucket_prefix))
    error_message = "bucket_prefix must be 2 to 21 lower-case letters, digits or dashes."
  }
}

variable "cidr" {
  description = "Addresses of the network: a private /16 that no other network uses."
  type        = string
}

variable "zones" {
  description = "The three availability zones, by name."
  type        = list(string)
}

variable "single_nat_gateway" {
  description = "One NAT gateway for all zones."
  type        = bool
}

variable "zone" {
  description = "Zone of Route 53 that exists."
  type        = string
}

variable "host" {
  description = "Name of the platform in it."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes."
  type        = string
  default     = "1.34"
}

variable "public_access_cidrs" {
  description = "Who may reach the API of Kubernetes from outside the network; none makes it private."
  type        = list(string)
  default     = []
}

variable "administrators" {
  description = "Roles that administer the cluster, by a name for each."
  type        = map(string)
}

variable "node_groups" {
  description = "Groups of nodes: services and stores."
  type        = any

  validation {
    condition     = alltrue([for group in ["services", "stores"] : contains(keys(var.node_groups), group)])
    error_message = "node_groups must have services and stores: Elasticsearch and Milvus run on the second."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete what holds data, and keep what observes it twice."
  type        = bool
}

variable "password_rotation" {
  description = "Add one to make all passwords anew (docs/terraform.md says what to do around it)."
  type        = number
  default     = 1
}

variable "alarm_addresses" {
  description = "Who is told of alarms about stores."
  type        = set(string)
}

variable "postgres" {
  description = "Size of PostgreSQL, and how it is guarded."
  type = object({
    instance_class      = string
    storage_gib         = number
    maximum_storage_gib = number
    max_connections     = number
    multi_az            = bool
    backup_days         = number
  })
}

variable "redis" {
  description = "Size of Valkey."
  type = object({
    node_type = string
    nodes     = number
  })
}

variable "kafka" {
  description = "Size of Kafka."
  type = object({
    brokers       = number
    instance_type = string
    storage_gib   = number
  })
}

variable "rabbitmq" {
  description = "Size of RabbitMQ."
  type = object({
    instance_type   = string
    deployment_mode = string
  })
}

variable "search" {
  description = "Size of Elasticsearch."
  type = object({
    nodes   = number
    memory  = string
    storage = string
  })
}

variable "vectors" {
  description = "Size of Milvus."
  type = object({
    replicas = number
  })
}

variable "chart_versions" {
  description = "Exact versions of the Helm charts."
  type = object({
    aws_load_balancer_controller = string
    eck_operator                 = string
    external_secrets             = string
    keda                         = string
    kube_prometheus_stack        = string
    milvus                       = string
    opentelemetry_collector      = string
  })
}
