output "bucket" {
  description = "The bucket."
  value       = aws_s3_bucket.this.bucket
}

output "region" {
  description = "Where it is."
  value       = aws_s3_bucket.this.region
}

output "logs_bucket" {
  description = "Bucket of access logs, for other buckets too."
  value       = aws_s3_bucket.logs.bucket
}
