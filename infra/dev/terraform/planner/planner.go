package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// planner answers what validating and planning ask. Requests that only come with a state or an
// apply (imports, upgrades, moves) are left out: without a state there are none.
type planner struct {
	tfprotov6.ProviderServer
	schemas *schemas
	// knowsARNs makes up ARNs, so that a plan shows the policies that name some.
	knowsARNs bool
}

func (p *planner) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	answer := &tfprotov6.GetMetadataResponse{ServerCapabilities: &tfprotov6.ServerCapabilities{}}
	for name := range p.schemas.resource {
		answer.Resources = append(answer.Resources, tfprotov6.ResourceMetadata{TypeName: name})
	}
	for name := range p.schemas.data {
		answer.DataSources = append(answer.DataSources, tfprotov6.DataSourceMetadata{TypeName: name})
	}
	for name := range p.schemas.ephemeral {
		answer.EphemeralResources = append(answer.EphemeralResources, tfprotov6.EphemeralResourceMetadata{TypeName: name})
	}
	return answer, nil
}

func (p *planner) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return &tfprotov6.GetProviderSchemaResponse{
		ServerCapabilities:       &tfprotov6.ServerCapabilities{},
		Provider:                 p.schemas.provider,
		ResourceSchemas:          p.schemas.resource,
		DataSourceSchemas:        p.schemas.data,
		EphemeralResourceSchemas: p.schemas.ephemeral,
	}, nil
}

func (p *planner) GetResourceIdentitySchemas(context.Context, *tfprotov6.GetResourceIdentitySchemasRequest) (*tfprotov6.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov6.GetResourceIdentitySchemasResponse{}, nil
}

func (p *planner) GetFunctions(context.Context, *tfprotov6.GetFunctionsRequest) (*tfprotov6.GetFunctionsResponse, error) {
	return &tfprotov6.GetFunctionsResponse{}, nil
}

func (p *planner) ValidateProviderConfig(_ context.Context, request *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: request.Config}, nil
}

func (p *planner) ConfigureProvider(context.Context, *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	return &tfprotov6.ConfigureProviderResponse{}, nil
}

func (p *planner) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

func (p *planner) ValidateResourceConfig(context.Context, *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

func (p *planner) ValidateDataResourceConfig(context.Context, *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	return &tfprotov6.ValidateDataResourceConfigResponse{}, nil
}

func (p *planner) ValidateEphemeralResourceConfig(context.Context, *tfprotov6.ValidateEphemeralResourceConfigRequest) (*tfprotov6.ValidateEphemeralResourceConfigResponse, error) {
	return &tfprotov6.ValidateEphemeralResourceConfigResponse{}, nil
}

// PlanResourceChange leaves what is set as it is, and unknown what a cloud would decide.
func (p *planner) PlanResourceChange(_ context.Context, request *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	schema := p.schemas.resource[request.TypeName]
	arn := "arn:aws:planned:eu-central-1:123456789012:" + request.TypeName
	unknown := func(name string, kind tftypes.Type) (tftypes.Value, error) {
		if p.knowsARNs && name == "arn" {
			return tftypes.NewValue(tftypes.String, arn), nil
		}
		return tftypes.NewValue(kind, tftypes.UnknownValue), nil
	}
	planned, err := completed(schema, request.ProposedNewState, unknown)
	return &tfprotov6.PlanResourceChangeResponse{PlannedState: planned}, err
}

func (p *planner) ApplyResourceChange(_ context.Context, request *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	return &tfprotov6.ApplyResourceChangeResponse{
		NewState: request.PriorState,
		Diagnostics: []*tfprotov6.Diagnostic{{
			Severity: tfprotov6.DiagnosticSeverityError,
			Summary:  "There is no cloud behind this provider",
			Detail:   "It stands in for " + request.TypeName + "'s to check configurations offline.",
		}},
	}, nil
}

func (p *planner) ReadDataSource(_ context.Context, request *tfprotov6.ReadDataSourceRequest) (*tfprotov6.ReadDataSourceResponse, error) {
	state, err := completed(p.schemas.data[request.TypeName], request.Config, p.told(request.TypeName))
	return &tfprotov6.ReadDataSourceResponse{State: state}, err
}

func (p *planner) OpenEphemeralResource(_ context.Context, request *tfprotov6.OpenEphemeralResourceRequest) (*tfprotov6.OpenEphemeralResourceResponse, error) {
	result, err := completed(p.schemas.ephemeral[request.TypeName], request.Config, p.told(request.TypeName))
	return &tfprotov6.OpenEphemeralResourceResponse{Result: result}, err
}

func (p *planner) CloseEphemeralResource(context.Context, *tfprotov6.CloseEphemeralResourceRequest) (*tfprotov6.CloseEphemeralResourceResponse, error) {
	return &tfprotov6.CloseEphemeralResourceResponse{}, nil
}

// told returns what answers.json says of a type; what it leaves out is empty.
func (p *planner) told(typeName string) filler {
	return func(name string, kind tftypes.Type) (tftypes.Value, error) {
		answer, is := p.schemas.answers[typeName][name]
		if !is {
			return tftypes.NewValue(kind, nil), nil
		}
		text, err := json.Marshal(answer)
		if err != nil {
			return tftypes.Value{}, err
		}
		return tftypes.ValueFromJSON(text, kind) //nolint:staticcheck // what the module offers for it
	}
}

// filler gives the value of a computed attribute that the configuration leaves open.
type filler func(name string, kind tftypes.Type) (tftypes.Value, error)

func completed(schema *tfprotov6.Schema, given *tfprotov6.DynamicValue, fill filler) (*tfprotov6.DynamicValue, error) {
	kind := schema.ValueType()
	value, err := given.Unmarshal(kind)
	if err != nil {
		return nil, err
	}
	if value, err = filled(schema.Block, value, fill); err != nil {
		return nil, err
	}
	made, err := tfprotov6.NewDynamicValue(kind, value)
	return &made, err
}

func filled(schema *tfprotov6.SchemaBlock, value tftypes.Value, fill filler) (tftypes.Value, error) {
	if value.IsNull() || !value.IsKnown() {
		return value, nil
	}
	var parts map[string]tftypes.Value
	if err := value.As(&parts); err != nil {
		return value, err
	}
	for _, attribute := range schema.Attributes {
		var err error
		part := parts[attribute.Name]
		switch {
		case attribute.WriteOnly:
			// Never part of a state.
			parts[attribute.Name] = tftypes.NewValue(attribute.ValueType(), nil)
		case attribute.Computed && part.IsNull():
			if parts[attribute.Name], err = fill(attribute.Name, attribute.ValueType()); err != nil {
				return value, fmt.Errorf("%s: %w", attribute.Name, err)
			}
		}
	}
	for _, nested := range schema.BlockTypes {
		part := parts[nested.TypeName]
		if part.IsNull() || !part.IsKnown() {
			continue
		}
		if nested.Nesting == tfprotov6.SchemaNestedBlockNestingModeSingle {
			made, err := filled(nested.Block, part, fill)
			if err != nil {
				return value, err
			}
			parts[nested.TypeName] = made
			continue
		}
		var elements []tftypes.Value
		if err := part.As(&elements); err != nil {
			return value, err
		}
		for at := range elements {
			made, err := filled(nested.Block, elements[at], fill)
			if err != nil {
				return value, err
			}
			elements[at] = made
		}
		parts[nested.TypeName] = tftypes.NewValue(part.Type(), elements)
	}
	return tftypes.NewValue(value.Type(), parts), nil
}
