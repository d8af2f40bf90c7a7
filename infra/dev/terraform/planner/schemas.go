package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// block is what make_schemas.py writes: attributes as [type, mode], blocks as [nesting, required, block].
type block struct {
	Attributes map[string][2]json.RawMessage `json:"attributes"`
	Blocks     map[string][3]json.RawMessage `json:"blocks"`
}

type file struct {
	Provider  block            `json:"provider"`
	Resource  map[string]block `json:"resource"`
	Data      map[string]block `json:"data"`
	Ephemeral map[string]block `json:"ephemeral"`
}

type schemas struct {
	provider                  *tfprotov6.Schema
	resource, data, ephemeral map[string]*tfprotov6.Schema
	// answers has the attributes that a data source or an ephemeral resource tells, by its type.
	answers map[string]map[string]any
}

func load(folder, provider string) (*schemas, error) {
	var found file
	if err := read(filepath.Join(folder, provider+".json"), &found); err != nil {
		return nil, err
	}
	known := &schemas{}
	if err := read(filepath.Join(folder, "answers.json"), &known.answers); err != nil {
		return nil, err
	}
	var err error
	if known.provider, err = schemaOf(found.Provider); err != nil {
		return nil, err
	}
	for _, pair := range []struct {
		from map[string]block
		to   *map[string]*tfprotov6.Schema
	}{{found.Resource, &known.resource}, {found.Data, &known.data}, {found.Ephemeral, &known.ephemeral}} {
		*pair.to = map[string]*tfprotov6.Schema{}
		for name, one := range pair.from {
			if (*pair.to)[name], err = schemaOf(one); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return known, nil
}

func read(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func schemaOf(one block) (*tfprotov6.Schema, error) {
	made, err := blockOf(one)
	return &tfprotov6.Schema{Block: made}, err
}

func blockOf(one block) (*tfprotov6.SchemaBlock, error) {
	made := &tfprotov6.SchemaBlock{}
	for name, said := range one.Attributes {
		var mode string
		if err := json.Unmarshal(said[1], &mode); err != nil {
			return nil, err
		}
		writeOnly := strings.HasSuffix(name, "_wo")
		attribute := &tfprotov6.SchemaAttribute{
			Name: name, WriteOnly: writeOnly,
			Required: mode == "required",
			Optional: mode == "optional",
			Computed: mode == "computed" || mode == "optional" && !writeOnly,
		}
		if err := giveType(attribute, said[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		made.Attributes = append(made.Attributes, attribute)
	}
	for name, said := range one.Blocks {
		nested, err := nestedOf(name, said)
		if err != nil {
			return nil, err
		}
		made.BlockTypes = append(made.BlockTypes, nested)
	}
	return made, nil
}

func nestedOf(name string, said [3]json.RawMessage) (*tfprotov6.SchemaNestedBlock, error) {
	var nesting string
	var required bool
	var inner block
	for at, into := range []any{&nesting, &required, &inner} {
		if err := json.Unmarshal(said[at], into); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	made, err := blockOf(inner)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	nested := &tfprotov6.SchemaNestedBlock{TypeName: name, Block: made}
	switch nesting {
	case "single":
		nested.Nesting = tfprotov6.SchemaNestedBlockNestingModeSingle
	case "set":
		nested.Nesting = tfprotov6.SchemaNestedBlockNestingModeSet
	case "list":
		nested.Nesting = tfprotov6.SchemaNestedBlockNestingModeList
	default:
		return nil, fmt.Errorf("%s: no nesting of the kind %s", name, nesting)
	}
	if required && nesting != "single" {
		nested.MinItems = 1
	}
	return nested, nil
}

// giveType reads a type, or ["nested", nesting, block]: settings that are written as an attribute.
func giveType(attribute *tfprotov6.SchemaAttribute, said json.RawMessage) error {
	var parts []json.RawMessage
	var kind, nesting string
	if json.Unmarshal(said, &parts) != nil || json.Unmarshal(parts[0], &kind) != nil || kind != "nested" {
		var err error
		attribute.Type, err = typeOf(said)
		return err
	}
	var inner block
	if err := errors.Join(json.Unmarshal(parts[1], &nesting), json.Unmarshal(parts[2], &inner)); err != nil {
		return err
	}
	made, err := blockOf(inner)
	if err != nil {
		return err
	}
	modes := map[string]tfprotov6.SchemaObjectNestingMode{
		"single": tfprotov6.SchemaObjectNestingModeSingle,
		"list":   tfprotov6.SchemaObjectNestingModeList,
		"set":    tfprotov6.SchemaObjectNestingModeSet,
	}
	if attribute.WriteOnly {
		// All of it is, not the whole alone.
		for _, one := range made.Attributes {
			one.WriteOnly, one.Computed = true, false
		}
	}
	attribute.NestedType = &tfprotov6.SchemaObject{Attributes: made.Attributes, Nesting: modes[nesting]}
	return nil
}

func typeOf(said json.RawMessage) (tftypes.Type, error) {
	var simple string
	if json.Unmarshal(said, &simple) == nil {
		kinds := map[string]tftypes.Type{
			"string": tftypes.String, "number": tftypes.Number, "bool": tftypes.Bool,
			"dynamic": tftypes.DynamicPseudoType,
		}
		if kind, is := kinds[simple]; is {
			return kind, nil
		}
		return nil, fmt.Errorf("no type %s", simple)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(said, &parts); err != nil || len(parts) < 2 {
		return nil, fmt.Errorf("no type %s", said)
	}
	var outer string
	if err := json.Unmarshal(parts[0], &outer); err != nil {
		return nil, err
	}
	if outer == "object" {
		return objectOf(parts[1])
	}
	inner, err := typeOf(parts[1])
	if err != nil {
		return nil, err
	}
	switch outer {
	case "list":
		return tftypes.List{ElementType: inner}, nil
	case "set":
		return tftypes.Set{ElementType: inner}, nil
	case "map":
		return tftypes.Map{ElementType: inner}, nil
	}
	return nil, fmt.Errorf("no type %s", outer)
}

func objectOf(attributes json.RawMessage) (tftypes.Type, error) {
	var said map[string]json.RawMessage
	if err := json.Unmarshal(attributes, &said); err != nil {
		return nil, err
	}
	made := tftypes.Object{AttributeTypes: map[string]tftypes.Type{}}
	for name, one := range said {
		kind, err := typeOf(one)
		if err != nil {
			return nil, err
		}
		made.AttributeTypes[name] = kind
	}
	return made, nil
}
