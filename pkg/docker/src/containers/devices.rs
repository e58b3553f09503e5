//! Devices of a container: nodes, rules of the device cgroup, CDI.

use husk_model::{Device, DeviceRule};

use crate::{
    api::container::HostConfig,
    error::{Failure, Result},
};

/// Devices of the node.
///
/// # Errors
/// 400 with the device.
pub(super) fn nodes(host: &HostConfig) -> Result<Vec<Device>> {
    let parse = |device: &crate::api::container::DeviceMapping| {
        let or =
            |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        let permissions = or(&device.cgroup_permissions, "rwm");
        if !device.path_on_host.starts_with('/') || permissions.chars().any(|c| !"rwm".contains(c)) {
            return Err(Failure::bad(format!("invalid device {:?}", cut(&device.path_on_host))));
        }
        Ok(Device {
            container_path: or(&device.path_in_container, &device.path_on_host),
            host_path: device.path_on_host.clone(),
            permissions,
        })
    };
    host.devices.iter().flatten().map(parse).collect()
}

/// `b 8:* rwm`: devices that it may use without a node of them.
///
/// # Errors
/// 400 with the rule.
pub(super) fn rules(host: &HostConfig) -> Result<Vec<DeviceRule>> {
    let rules = host.device_cgroup_rules.iter().flatten();
    rules
        .map(|text| {
            rule(text)
                .ok_or_else(|| Failure::bad(format!("invalid device cgroup rule format: '{}'", cut(text))))
        })
        .collect()
}

fn rule(text: &str) -> Option<DeviceRule> {
    let [kind, numbers, access] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let number = |text: &str| match text {
        "*" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let (major, minor) = numbers.split_once(':')?;
    let block = match kind {
        "a" => None,
        "b" => Some(true),
        "c" => Some(false),
        _ => return None,
    };
    let is_access = (1..=3).contains(&access.len()) && access.bytes().all(|byte| b"rwm".contains(&byte));
    let rule = DeviceRule { block, major: number(major)?, minor: number(minor)?, access: access.to_owned() };
    is_access.then_some(rule)
}

/// Names of CDI devices.
///
/// # Errors
/// 400 for another driver.
pub(super) fn cdi(host: &HostConfig) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for request in host.device_requests.iter().flatten() {
        if request.driver != "cdi" {
            return Err(Failure::bad(format!(
                "could not select device driver {:?}; husk has cdi",
                cut(&request.driver)
            )));
        }
        names.extend(request.device_ids.iter().cloned());
    }
    Ok(names)
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_a_kind_numbers_and_what_may_be_done() {
        let rules = |text: &str| {
            let host =
                HostConfig { device_cgroup_rules: Some(vec![text.to_owned()]), ..HostConfig::default() };
            rules(&host)
        };
        let rule =
            |block, major, minor, access: &str| DeviceRule { block, major, minor, access: access.to_owned() };
        assert_eq!(rules("c 13:* rw").unwrap(), [rule(Some(false), Some(13), None, "rw")]);
        assert_eq!(rules("a *:* m").unwrap(), [rule(None, None, None, "m")]);
        assert_eq!(rules("b 8:1 rwm").unwrap(), [rule(Some(true), Some(8), Some(1), "rwm")]);
        for text in [
            "",
            "c",
            "c 1:2",
            "d 1:2 r",
            "c 1 r",
            "c 1:2 x",
            "c 1:2 rwmr",
            "c 1:-2 r",
            "c 1:2  r",
            "c :2 r",
            "c 1:99999999999 r",
        ] {
            assert_eq!(rules(text).unwrap_err().status(), 400, "{text:?}");
        }
    }
}
