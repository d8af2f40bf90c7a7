// Reads compose files as Docker does (schema, variables, profiles, who waits for whom) and writes the
// project that they come to as JSON:  compose-check FILE
//
// Variables come from the environment, profiles from COMPOSE_PROFILES. A mistake ends it with 1.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: compose-check FILE")
	}
	options, err := cli.NewProjectOptions(
		os.Args[1:],
		cli.WithWorkingDirectory(filepath.Dir(os.Args[1])),
		cli.WithOsEnv,
		cli.WithProfiles(strings.Split(os.Getenv("COMPOSE_PROFILES"), ",")),
	)
	if err != nil {
		fail(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		fail(err)
	}
	said, err := project.MarshalJSON()
	if err != nil {
		fail(err)
	}
	os.Stdout.Write(said)
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
