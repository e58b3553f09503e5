//! A crate depends only on crates of lower layers, and ARCHITECTURE.md says which layer that is.

use std::collections::{BTreeMap, HashMap};

use crate::workspace::Package;

/// Crates without a layer, and dependencies that do not lead down.
pub fn broken(packages: &[Package]) -> Vec<String> {
    let layers: HashMap<&str, u64> =
        packages.iter().filter_map(|package| Some((package.name.as_str(), package.layer?))).collect();
    let mut offenders = Vec::new();
    for Package { name, layer, dependencies, .. } in packages {
        let Some(layer) = *layer else {
            offenders.push(format!("{name} declares no package.metadata.husk.layer"));
            continue;
        };
        for dependency in dependencies {
            if let Some(&below) = layers.get(dependency.as_str())
                && below >= layer
            {
                offenders.push(format!("{name} (layer {layer}) depends on {dependency} (layer {below})"));
            }
        }
    }
    offenders
}

/// Where the code map of the page and the crates disagree. A row without a layer is of the layer above it.
pub fn not_as_on_the_page(page: &str, packages: &[Package]) -> Vec<String> {
    let mut rows = BTreeMap::new();
    let mut layer = None;
    for row in page.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if let ["", number, name, folder, role, ""] = cells[..]
            && let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        {
            layer = number.parse().ok().or(layer);
            rows.insert(name, (layer, folder, role));
        }
    }
    let mut offenders = Vec::new();
    for Package { name, layer, folder, .. } in packages {
        match rows.remove(name.as_str()) {
            None => offenders.push(format!("{name} is not in the code map")),
            Some((said, ..)) if said != *layer => {
                offenders.push(format!("{name} is of layer {layer:?}, the code map says {said:?}"));
            }
            Some((_, said, _)) if folder.to_str() != Some(said) => {
                offenders.push(format!("{name} lies in {}, the code map says {said}", folder.display()));
            }
            Some((.., "")) => offenders.push(format!("{name} has no role in the code map")),
            Some(_) => {}
        }
    }
    offenders.extend(rows.into_keys().map(|name| format!("{name} is in the code map and nowhere else")));
    offenders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, layer: Option<u64>, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            folder: format!("pkg/{name}").into(),
            layer,
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            entries: Vec::new(),
        }
    }

    #[test]
    fn a_dependency_leads_down() {
        let bottom = package("sys", Some(1), &["libc"]);
        assert!(broken(&[bottom.clone(), package("spec", Some(2), &["sys"])]).is_empty());
        assert_eq!(
            broken(&[bottom.clone(), package("spec", None, &["sys"])]),
            ["spec declares no package.metadata.husk.layer"]
        );
        assert_eq!(
            broken(&[bottom, package("model", Some(1), &["sys"])]),
            ["model (layer 1) depends on sys (layer 1)"]
        );
    }

    #[test]
    fn the_page_says_layer_folder_and_role_of_each_crate() {
        let page = "| layer | crate | folder | role |\n| --- | --- | --- | --- |\n| 2 | `spec` | pkg/spec | specs |\n";
        let crates = [package("spec", Some(2), &[]), package("life", Some(2), &[])];
        assert_eq!(not_as_on_the_page(page, &crates), ["life is not in the code map"]);
        let row = |row: &str| not_as_on_the_page(&format!("{page}{row}"), &crates);
        assert!(row("|   | `life` | pkg/life | lives |").is_empty());
        assert_eq!(
            row("| 1 | `life` | pkg/life | lives |"),
            ["life is of layer Some(2), the code map says Some(1)"]
        );
        assert_eq!(row("|   | `life` | life | lives |"), ["life lies in pkg/life, the code map says life"]);
        assert_eq!(row("|   | `life` | pkg/life |   |"), ["life has no role in the code map"]);
        assert_eq!(
            row("|   | `life` | pkg/life | lives |\n|   | `gone` | pkg/gone | was |"),
            ["gone is in the code map and nowhere else"]
        );
    }
}
