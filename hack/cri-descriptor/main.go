// Prints the CRI v1 contract as published in the Go module k8s.io/cri-api, one fact a line, sorted: the normal form that
// proto/tests/contract.rs makes of our own transcription.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type facts []string

func (f *facts) add(format string, values ...any) {
	*f = append(*f, strings.TrimRight(fmt.Sprintf(format, values...), " "))
}

// word is text behind a space when it is wanted, else nothing.
func word(wanted bool, text string) string {
	if wanted {
		return " " + text
	}
	return ""
}

func (f *facts) message(parent string, message *descriptorpb.DescriptorProto) {
	name := parent + message.GetName()
	f.add("message %s%s", name, word(message.GetOptions().GetMapEntry(), "map_entry"))
	for _, field := range message.GetField() {
		kind := strings.ToLower(strings.TrimPrefix(field.GetType().String(), "TYPE_"))
		label := strings.ToLower(strings.TrimPrefix(field.GetLabel().String(), "LABEL_"))
		f.add("field %s %d %s %s%s %s json=%s%s%s%s", name, field.GetNumber(), label, kind,
			word(field.GetTypeName() != "", field.GetTypeName()), field.GetName(), field.GetJsonName(),
			word(field.GetOptions().GetDeprecated(), "deprecated"),
			word(field.OneofIndex != nil, "oneof"), word(field.GetProto3Optional(), "proto3_optional"))
	}
	for _, nested := range message.GetNestedType() {
		f.message(name+".", nested)
	}
	for _, enum := range message.GetEnumType() {
		f.enum(name+".", enum)
	}
	for _, reserved := range message.GetReservedRange() {
		f.add("reserved %s %d %d", name, reserved.GetStart(), reserved.GetEnd())
	}
}

func (f *facts) enum(parent string, enum *descriptorpb.EnumDescriptorProto) {
	name := parent + enum.GetName()
	f.add("enum %s", name)
	for _, value := range enum.GetValue() {
		f.add("value %s %d %s", name, value.GetNumber(), value.GetName())
	}
}

func main() {
	file := protodesc.ToFileDescriptorProto(cri.File_staging_src_k8s_io_cri_api_pkg_apis_runtime_v1_api_proto)
	var f facts
	f.add("package %s", file.GetPackage())
	f.add("syntax %s", file.GetSyntax())
	for _, message := range file.GetMessageType() {
		f.message("", message)
	}
	for _, enum := range file.GetEnumType() {
		f.enum("", enum)
	}
	for _, service := range file.GetService() {
		for _, method := range service.GetMethod() {
			f.add("rpc %s.%s%s %s ->%s %s", service.GetName(), method.GetName(),
				word(method.GetClientStreaming(), "stream"), method.GetInputType(),
				word(method.GetServerStreaming(), "stream"), method.GetOutputType())
		}
	}
	slices.Sort(f)
	fmt.Fprintln(os.Stdout, strings.Join(f, "\n"))
}
