# A network over three zones: nodes and stores in private subnets, load balancers alone in public
# ones. What AWS offers is reached by endpoints inside the network, the rest through NAT.

data "aws_region" "current" {}

locals {
  # Of a /16: private /19 for pods (each has an address of its own), stores /24, public /24.
  private = { for at, zone in var.zones : zone => cidrsubnet(var.cidr, 3, at) }
  stores  = { for at, zone in var.zones : zone => cidrsubnet(var.cidr, 8, 224 + at) }
  public  = { for at, zone in var.zones : zone => cidrsubnet(var.cidr, 8, 240 + at) }

  # One NAT gateway a zone: a zone that fails takes no other with it. One alone is cheaper.
  nat_zones = var.single_nat_gateway ? slice(var.zones, 0, 1) : var.zones

  interface_endpoints = toset([
    "ecr.api", "ecr.dkr", "sts", "logs", "secretsmanager", "kms", "ec2", "eks-auth", "xray",
  ])
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_hostnames = true
  enable_dns_support   = true

  tags = { Name = var.name }
}

# Whatever names no security group gets this one, which lets nothing through.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_subnet" "public" {
  for_each = local.public

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.key
  cidr_block              = each.value
  map_public_ip_on_launch = false

  tags = {
    Name                     = "${var.name}-public-${each.key}"
    "kubernetes.io/role/elb" = "1"
  }
}

resource "aws_subnet" "private" {
  for_each = local.private

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value

  tags = {
    Name                              = "${var.name}-private-${each.key}"
    "kubernetes.io/role/internal-elb" = "1"
  }
}

resource "aws_subnet" "stores" {
  for_each = local.stores

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = each.value

  tags = { Name = "${var.name}-stores-${each.key}" }
}

resource "aws_eip" "nat" {
  for_each = toset(local.nat_zones)

  domain = "vpc"

  tags = { Name = "${var.name}-nat-${each.key}" }
}

resource "aws_nat_gateway" "this" {
  for_each = aws_eip.nat

  allocation_id = each.value.id
  subnet_id     = aws_subnet.public[each.key].id

  tags = { Name = "${var.name}-${each.key}" }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-public" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table" "private" {
  for_each = local.private

  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_route" "nat" {
  for_each = aws_route_table.private

  route_table_id         = each.value.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[contains(local.nat_zones, each.key) ? each.key : local.nat_zones[0]].id
}

resource "aws_route_table_association" "private" {
  for_each = aws_subnet.private

  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[each.key].id
}

# The stores need no way out: their table has the network alone.
resource "aws_route_table" "stores" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-stores" }
}

resource "aws_route_table_association" "stores" {
  for_each = aws_subnet.stores

  subnet_id      = each.value.id
  route_table_id = aws_route_table.stores.id
}
