output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "Its addresses."
  value       = aws_vpc.this.cidr_block
}

output "zones" {
  description = "The three zones."
  value       = var.zones
}

output "private_subnet_ids" {
  description = "Subnets of nodes and pods, one a zone."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}

output "store_subnet_ids" {
  description = "Subnets of the stores, one a zone, without a way out."
  value       = [for zone in var.zones : aws_subnet.stores[zone].id]
}

output "public_subnet_ids" {
  description = "Subnets of load balancers, one a zone."
  value       = [for zone in var.zones : aws_subnet.public[zone].id]
}
