//! Our transcription of the CRI is the published one: same names, numbers, types and labels.
//!
//! The golden files hold other people's contracts as facts, one a line; `hack/cri-descriptor/check` makes them anew from
//! where they are published and compares, so that this test needs no network.

use std::{collections::BTreeSet, fmt::Write as _};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// The Go module k8s.io/cri-api.
const PUBLISHED: &str = include_str!("golden/cri-api-v0.37.2.txt");
/// The crate k8s-cri, which lags behind (docs/decisions/0004-own-cri-contract.md).
const K8S_CRI: &str = include_str!("golden/k8s-cri-0.11.0.txt");

fn facts(file: &FileDescriptorProto) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    facts.insert(format!("package {}", file.package()));
    facts.insert(format!("syntax {}", file.syntax()));
    file.message_type.iter().for_each(|message| add_message("", message, &mut facts));
    file.enum_type.iter().for_each(|values| add_enum("", values, &mut facts));
    for service in &file.service {
        for method in &service.method {
            facts.insert(format!(
                "rpc {}.{}{} {} ->{} {}",
                service.name(),
                method.name(),
                word(method.client_streaming(), "stream"),
                method.input_type(),
                word(method.server_streaming(), "stream"),
                method.output_type()
            ));
        }
    }
    facts
}

/// `text` behind a space when it is wanted, else nothing.
fn word(wanted: bool, text: &str) -> String {
    if wanted { format!(" {text}") } else { String::new() }
}

fn add_message(parent: &str, message: &DescriptorProto, facts: &mut BTreeSet<String>) {
    let name = format!("{parent}{}", message.name());
    let map = message.options.as_ref().is_some_and(|options| options.map_entry());
    facts.insert(format!("message {name}{}", word(map, "map_entry")));
    facts.extend(message.field.iter().map(|field| field_fact(&name, field)));
    let inner = format!("{name}.");
    message.nested_type.iter().for_each(|nested| add_message(&inner, nested, facts));
    message.enum_type.iter().for_each(|values| add_enum(&inner, values, facts));
    facts.extend(
        message
            .reserved_range
            .iter()
            .map(|range| format!("reserved {name} {} {}", range.start(), range.end())),
    );
}

fn field_fact(message: &str, field: &FieldDescriptorProto) -> String {
    let kind = match field.r#type() {
        Type::Bool => "bool",
        Type::Bytes => "bytes",
        Type::Double => "double",
        Type::Enum => "enum",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Message => "message",
        Type::String => "string",
        Type::Uint32 => "uint32",
        Type::Uint64 => "uint64",
        other => panic!("{message}.{} has a type that the contract does not use: {other:?}", field.name()),
    };
    let label = match field.label() {
        Label::Optional => "optional",
        Label::Repeated => "repeated",
        Label::Required => "required",
    };
    let mut fact = format!("field {message} {} {label} {kind}", field.number());
    fact.push_str(&word(!field.type_name().is_empty(), field.type_name()));
    let _ = write!(fact, " {} json={}", field.name(), field.json_name());
    fact.push_str(&word(field.options.as_ref().is_some_and(|options| options.deprecated()), "deprecated"));
    fact.push_str(&word(field.oneof_index.is_some(), "oneof"));
    fact.push_str(&word(field.proto3_optional(), "proto3_optional"));
    fact
}

fn add_enum(parent: &str, values: &EnumDescriptorProto, facts: &mut BTreeSet<String>) {
    let name = format!("{parent}{}", values.name());
    facts.insert(format!("enum {name}"));
    facts
        .extend(values.value.iter().map(|value| format!("value {name} {} {}", value.number(), value.name())));
}

fn ours() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(husk_proto::cri::v1::DESCRIPTORS).unwrap();
    let file = set.file.iter().find(|file| file.package() == "runtime.v1").expect("package runtime.v1");
    facts(file)
}

fn golden(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

/// Facts of k8s-cri that a later CRI changed. A string and bytes look the same on the wire.
const CHANGED_SINCE: [&str; 1] = ["field KeyValue 2 optional string value json=value"];

/// A fact without what only people and JSON see, so that a renamed value compares equal.
fn wire(fact: &str) -> String {
    let mut words: Vec<&str> = fact.split(' ').filter(|word| *word != "deprecated").collect();
    match words[0] {
        "value" => words.truncate(3),
        "field" => words.truncate(words.len() - 2),
        _ => {}
    }
    words.join(" ")
}

fn report(what: &str, facts: Vec<&String>) -> String {
    facts.iter().fold(String::from(what), |text, fact| text + "\n  " + fact)
}

#[test]
fn the_contract_is_the_published_one() {
    let (ours, published) = (ours(), golden(PUBLISHED));
    assert!(published.len() > 800, "the golden file is not whole");
    let missing: Vec<_> = published.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&published).collect();
    assert!(missing.is_empty(), "{}", report("published, but not in proto/cri/v1/api.proto:", missing));
    assert!(extra.is_empty(), "{}", report("in proto/cri/v1/api.proto, but not published:", extra));
}

#[test]
fn the_contract_holds_all_that_the_k8s_cri_crate_knows() {
    let ours: BTreeSet<String> = ours().iter().map(|fact| wire(fact)).collect();
    let theirs = golden(K8S_CRI);
    assert!(theirs.len() > 700, "the golden file is not whole");
    let missing: Vec<_> = theirs.iter().filter(|fact| !ours.contains(&wire(fact))).collect();
    assert_eq!(missing, CHANGED_SINCE, "known to k8s-cri, but not in proto/cri/v1/api.proto");
}

/// Not a test of husk: prints the facts of the file that `HUSK_PROTO_FILE` names, for `hack/cri-descriptor/check`.
#[test]
#[ignore = "a tool of hack/cri-descriptor/check"]
fn print_the_facts_of_another_file() {
    let path = std::path::PathBuf::from(std::env::var_os("HUSK_PROTO_FILE").expect("HUSK_PROTO_FILE"));
    let set = protox::compile([&path], [path.parent().unwrap()]).unwrap();
    let file = set.file.iter().find(|file| file.package() == "runtime.v1").expect("package runtime.v1");
    for fact in facts(file) {
        println!("FACT {fact}");
    }
}
