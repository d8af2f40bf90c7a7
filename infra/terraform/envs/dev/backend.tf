# The state: versioned and encrypted in S3, one writer at a time by S3's own lock. Bucket, region and
# key of encryption are those of the company:
#     terraform init -backend-config=backend.hcl
terraform {
  backend "s3" {
    key          = "meshwright/dev.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
