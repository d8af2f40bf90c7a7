// A provider that knows the schemas of others and has no cloud behind it.
//
// OpenTofu starts it in the place of hashicorp/aws and the others, whose binaries no package
// registry has. It answers with the schema in PLANNER_SCHEMAS/<provider>.json, so that `tofu
// validate` finds every argument that does not exist and `tofu plan` computes every value that a
// configuration sets. What a cloud would decide stays unknown in a plan, but with PLANNER_ARNS=1
// every ARN is made up; what data sources tell stands in PLANNER_SCHEMAS/answers.json. Nothing can be applied: that is an error.
package main

import (
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
)

func main() {
	// terraform-provider-aws_v6.25.0: the name of the file says whose place it takes.
	name, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(os.Args[0]), "terraform-provider-"), "_")
	schemas, err := load(os.Getenv("PLANNER_SCHEMAS"), name)
	if err != nil {
		log.Fatal(err)
	}
	server := func() tfprotov6.ProviderServer {
		return &planner{schemas: schemas, knowsARNs: os.Getenv("PLANNER_ARNS") == "1"}
	}
	// Its address is for logs alone.
	if err := tf6server.Serve("planner.local/hashicorp/"+name, server); err != nil {
		log.Fatal(err)
	}
}
