# Roles of the add-ons, each bound to one service account.

locals {
  # Namespace and service account of each.
  accounts = {
    external-dns                 = null # bound by its add-on
    external-secrets             = "external-secrets"
    aws-load-balancer-controller = "kube-system"
  }
}

resource "aws_iam_role" "this" {
  for_each = local.accounts

  name_prefix = "${substr(each.key, 0, 20)}-"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]
  })

  tags = { Cluster = var.cluster_name }
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = { for account, namespace in local.accounts : account => namespace if namespace != null }

  cluster_name    = var.cluster_name
  namespace       = each.value
  service_account = each.key
  role_arn        = aws_iam_role.this[each.key].arn
}

resource "aws_iam_role_policy" "external_dns" {
  name = "change-the-zone"
  role = aws_iam_role.this["external-dns"].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets", "route53:ListTagsForResource"]
        Resource = [var.zone_arn]
      },
      {
        # Knows no resource: the list of zones.
        Effect   = "Allow"
        Action   = ["route53:ListHostedZones"]
        Resource = ["*"]
      },
    ]
  })
}

# The controller finds the network by itself, and changes only what carries its own tag. Deciding by
# tags is what ELB and EC2 offer: an ARN of what does not exist yet cannot be named.
resource "aws_iam_role_policy" "load_balancers" {
  name = "keep-load-balancers"
  role = aws_iam_role.this["aws-load-balancer-controller"].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "Look"
        Effect = "Allow"
        Action = [
          "ec2:DescribeAccountAttributes", "ec2:DescribeAddresses", "ec2:DescribeAvailabilityZones",
          "ec2:DescribeInstances", "ec2:DescribeInternetGateways", "ec2:DescribeNetworkInterfaces",
          "ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets",
          "ec2:DescribeTags", "ec2:DescribeVpcs", "ec2:GetSecurityGroupsForVpc",
          "elasticloadbalancing:Describe*", "acm:ListCertificates", "acm:DescribeCertificate",
        ]
        Resource = ["*"]
      },
      {
        Sid    = "MakeWithItsTag"
        Effect = "Allow"
        Action = [
          "elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup",
          "ec2:CreateSecurityGroup",
        ]
        Resource  = ["*"]
        Condition = { StringEquals = { "aws:RequestTag/elbv2.k8s.aws/cluster" = var.cluster_name } }
      },
      {
        Sid      = "MakeSecurityGroupsInTheNetwork"
        Effect   = "Allow"
        Action   = ["ec2:CreateSecurityGroup"]
        Resource = ["arn:${data.aws_partition.current.partition}:ec2:*:*:vpc/${var.vpc_id}"]
      },
      {
        Sid    = "TagWhatItMakes"
        Effect = "Allow"
        Action = ["ec2:CreateTags", "elasticloadbalancing:AddTags"]
        Resource = [
          "arn:${data.aws_partition.current.partition}:ec2:*:*:security-group/*",
          "arn:${data.aws_partition.current.partition}:elasticloadbalancing:*:*:loadbalancer/*",
          "arn:${data.aws_partition.current.partition}:elasticloadbalancing:*:*:targetgroup/*",
          "arn:${data.aws_partition.current.partition}:elasticloadbalancing:*:*:listener/*",
          "arn:${data.aws_partition.current.partition}:elasticloadbalancing:*:*:listener-rule/*",
        ]
        Condition = {
          StringEqualsIfExists = { "aws:RequestTag/elbv2.k8s.aws/cluster" = var.cluster_name }
        }
      },
      {
        Sid    = "ChangeWhatHasItsTag"
        Effect = "Allow"
        Action = [
          "ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress", "ec2:DeleteSecurityGroup",
          "ec2:DeleteTags", "elasticloadbalancing:RemoveTags",
          "elasticloadbalancing:ModifyLoadBalancerAttributes", "elasticloadbalancing:SetIpAddressType",
          "elasticloadbalancing:SetSecurityGroups", "elasticloadbalancing:SetSubnets",
          "elasticloadbalancing:DeleteLoadBalancer", "elasticloadbalancing:ModifyTargetGroup",
          "elasticloadbalancing:ModifyTargetGroupAttributes", "elasticloadbalancing:DeleteTargetGroup",
          "elasticloadbalancing:RegisterTargets", "elasticloadbalancing:DeregisterTargets",
        ]
        Resource  = ["*"]
        Condition = { StringEquals = { "aws:ResourceTag/elbv2.k8s.aws/cluster" = var.cluster_name } }
      },
      {
        # The rules between load balancers and pods stand in the cluster's own group.
        Sid      = "OpenTheClustersGroup"
        Effect   = "Allow"
        Action   = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
        Resource = ["arn:${data.aws_partition.current.partition}:ec2:*:*:security-group/${var.cluster_security_group_id}"]
      },
      {
        Sid    = "KeepListeners"
        Effect = "Allow"
        Action = [
          "elasticloadbalancing:CreateListener", "elasticloadbalancing:DeleteListener",
          "elasticloadbalancing:ModifyListener", "elasticloadbalancing:ModifyListenerAttributes",
          "elasticloadbalancing:CreateRule", "elasticloadbalancing:DeleteRule", "elasticloadbalancing:ModifyRule",
          "elasticloadbalancing:SetRulePriorities", "elasticloadbalancing:AddListenerCertificates",
          "elasticloadbalancing:RemoveListenerCertificates",
        ]
        Resource = [
          "arn:${data.aws_partition.current.partition}:elasticloadbalancing:*:*:loadbalancer/*/k8s-*",
          "arn:${data.aws_partition.current.partition}:elasticloadbalancing:*:*:listener/*/k8s-*",
          "arn:${data.aws_partition.current.partition}:elasticloadbalancing:*:*:listener-rule/*/k8s-*",
        ]
      },
    ]
  })
}
