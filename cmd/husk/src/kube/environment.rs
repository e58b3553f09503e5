//! Variables of a container, and `$(NAME)` in what it runs (Kubernetes, "Define environment variables").

use std::collections::BTreeMap;

use super::{
    manifest::{Data, Keyed, Wanted},
    types::{Container, KeyRef, NameRef, ValueFrom},
};

/// Bytes of one value: the kernel takes no longer one (MAX_ARG_STRLEN).
const MAX_VALUE: usize = 128 << 10;

/// Name and value of each, in order; a later one of a name replaces the earlier.
///
/// # Errors
/// In words, with the field.
pub(super) fn variables(
    container: &Container,
    wanted: &Wanted,
    data: &Data,
) -> Result<Vec<(String, String)>, String> {
    let mut variables = Variables::default();
    for (index, from) in container.env_from.iter().enumerate() {
        let field = |name: &str| format!("envFrom[{index}].{name}");
        for (reference, kind, all) in [
            (&from.config_map_ref, "configMapRef", &data.config_maps),
            (&from.secret_ref, "secretRef", &data.secrets),
        ] {
            let Some(NameRef { name, optional }) = reference else { continue };
            match all.get(&(wanted.namespace.clone(), name.clone())) {
                Some(keyed) => {
                    for (key, value) in keyed {
                        let value =
                            text(value).map_err(|reason| format!("{}.{key}: {reason}", field(kind)))?;
                        variables.set(format!("{}{key}", from.prefix), value);
                    }
                }
                None if *optional => {}
                None => return Err(format!("{}: {}", field(kind), absent(name))),
            }
        }
    }
    for (index, variable) in container.env.iter().enumerate() {
        let field = format!("env[{index}]");
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            return Err(format!("{field}.name: {:?} is not the name of a variable", variable.name));
        }
        let value = match (&variable.value, &variable.value_from) {
            (Some(_), Some(_)) => return Err(format!("{field}: has both value and valueFrom")),
            (Some(value), None) => Some(expand(value, &variables.by_name)),
            (None, Some(from)) => {
                referenced(from, wanted, data).map_err(|reason| format!("{field}.valueFrom.{reason}"))?
            }
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            if value.len() > MAX_VALUE || value.contains('\0') {
                return Err(format!("{field}: its value is longer than {MAX_VALUE} bytes or has a NUL"));
            }
            variables.set(variable.name.clone(), value);
        }
    }
    let Variables { order, by_name } = variables;
    Ok(order.into_iter().filter_map(|name| by_name.get(&name).cloned().map(|value| (name, value))).collect())
}

#[derive(Default)]
struct Variables {
    order: Vec<String>,
    by_name: BTreeMap<String, String>,
}

impl Variables {
    fn set(&mut self, name: String, value: String) {
        if self.by_name.insert(name.clone(), value).is_none() {
            self.order.push(name);
        }
    }
}

fn referenced(from: &ValueFrom, wanted: &Wanted, data: &Data) -> Result<Option<String>, String> {
    match (&from.config_map_key_ref, &from.secret_key_ref, &from.field_ref) {
        (Some(key), None, None) => of_key("configMapKeyRef", key, &wanted.namespace, &data.config_maps),
        (None, Some(key), None) => of_key("secretKeyRef", key, &wanted.namespace, &data.secrets),
        (None, None, Some(field)) => of_pod(&field.field_path, wanted).map(Some),
        _ => Err("what is read is one of configMapKeyRef, secretKeyRef and fieldRef".to_owned()),
    }
}

fn of_key(
    kind: &str,
    KeyRef { name, key, optional }: &KeyRef,
    namespace: &str,
    all: &BTreeMap<(String, String), Keyed>,
) -> Result<Option<String>, String> {
    let keyed = all.get(&(namespace.to_owned(), name.clone()));
    match keyed.and_then(|keyed| keyed.get(key)) {
        Some(value) => text(value).map(Some).map_err(|reason| format!("{kind}: {key}: {reason}")),
        None if *optional => Ok(None),
        None if keyed.is_some() => Err(format!("{kind}: {name:?} has no key {key:?}")),
        None => Err(format!("{kind}: {}", absent(name))),
    }
}

pub(super) fn absent(name: &str) -> String {
    format!("{name:?} is not in this file; put its document there, in the pod's namespace")
}

fn of_pod(path: &str, wanted: &Wanted) -> Result<String, String> {
    let tag = |prefix: &str, tags: &BTreeMap<String, String>| {
        let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
        Some(tags.get(key).cloned().unwrap_or_default())
    };
    match path {
        "metadata.name" => Ok(wanted.name.clone()),
        "metadata.namespace" => Ok(wanted.namespace.clone()),
        "metadata.uid" => Ok(format!("{}_{}", wanted.namespace, wanted.name)),
        _ => tag("metadata.labels", &wanted.labels)
            .or_else(|| tag("metadata.annotations", &wanted.annotations))
            .ok_or_else(|| {
                format!("fieldRef.fieldPath: {path:?} is not known before the pod runs, or not read")
            }),
    }
}

fn text(value: &[u8]) -> Result<String, String> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') && text.len() <= MAX_VALUE => Ok(text.to_owned()),
        _ => Err("its value is not text that a variable can have".to_owned()),
    }
}

/// Each word with its references replaced.
pub(super) fn expanded(words: &[String], variables: &[(String, String)]) -> Vec<String> {
    let by_name = variables.iter().cloned().collect();
    words.iter().map(|word| expand(word, &by_name)).collect()
}

/// `$(NAME)` becomes the variable's value, if there is one; `$$` is a dollar.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at..];
        let reference = rest.strip_prefix("$(").and_then(|behind| behind.split_once(')'));
        match reference {
            _ if rest.starts_with("$$") => {
                expanded.push('$');
                rest = &rest[2..];
            }
            Some((name, behind)) if variables.contains_key(name) => {
                expanded.push_str(&variables[name]);
                rest = behind;
            }
            _ => {
                expanded.push('$');
                rest = &rest[1..];
            }
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::manifest::Manifest;

    fn of(container: &str, more: &str) -> Result<Vec<(String, String)>, String> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{a: b}}}}\nspec: {{containers: [{{name: c, image: i, {container}}}]}}\n{more}"
        );
        let manifest = Manifest::from_text(&text).unwrap();
        variables(&manifest.pods[0].spec.containers[0], &manifest.pods[0], &manifest.data)
    }

    const MORE: &str = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {X: one, Y: two}\n\
                        ---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {P: hidden}\nbinaryData: {}\n";

    #[test]
    fn variables_come_from_values_maps_secrets_and_the_pod_and_the_later_one_counts() {
        let variables = of(
            "envFrom: [{configMapRef: {name: m}, prefix: P_}, {secretRef: {name: no, optional: true}}], env: [\
             {name: A, value: \"1\"}, {name: A, value: \"2$(A)\"}, {name: S, valueFrom: {secretKeyRef: {name: s, key: P}}}, \
             {name: N, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, \
             {name: L, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a']\"}}}, {name: E}]",
            MORE,
        )
        .unwrap();
        let expected = [
            ("P_X", "one"),
            ("P_Y", "two"),
            ("A", "21"),
            ("S", "hidden"),
            ("N", "web"),
            ("L", "b"),
            ("E", ""),
        ];
        assert_eq!(variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (container, part) in [
            (
                "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: Q}}}]",
                "env[0].valueFrom.secretKeyRef: \"s\" has no key",
            ),
            ("env: [{name: A, valueFrom: {configMapKeyRef: {name: x, key: Q}}}]", "not in this file"),
            ("envFrom: [{configMapRef: {name: x}}]", "envFrom[0].configMapRef"),
            ("env: [{name: \"A=B\", value: x}]", "env[0].name"),
            ("env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]", "status.podIP"),
        ] {
            let error = of(container, MORE).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn references_are_replaced_once_and_a_doubled_dollar_is_one() {
        let variables =
            BTreeMap::from([("A".to_owned(), "$(B)".to_owned()), ("B".to_owned(), "b".to_owned())]);
        for (text, expected) in
            [("$(A) $(B)", "$(B) b"), ("$$(B)", "$(B)"), ("$(C) $B $( $", "$(C) $B $( $"), ("é$(B)é", "ébé")]
        {
            assert_eq!(expand(text, &variables), expected);
        }
    }
}
