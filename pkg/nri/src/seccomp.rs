//! A plugin's seccomp policy as a profile in OCI form, which the engine compiles as it does a localhost profile.

use husk_proto::nri;
use serde_json::{Value, json};

use crate::NriError;

/// The JSON text of a policy.
pub(crate) fn profile(plugin: &str, policy: &nri::LinuxSeccomp) -> Result<Vec<u8>, NriError> {
    if !policy.listener_path.is_empty() {
        return Err(NriError::Unsupported {
            plugin: plugin.to_owned(),
            field: "adjust.linux.seccomp_policy.listener_path",
            what: "seccomp listeners are not supported",
        });
    }
    let mut profile = json!({
        "defaultAction": policy.default_action,
        "architectures": policy.architectures,
        "flags": policy.flags,
        "syscalls": policy.syscalls.iter().map(syscall).collect::<Vec<_>>(),
    });
    if let Some(errno) = policy.default_errno {
        profile["defaultErrnoRet"] = errno.value.into();
    }
    Ok(profile.to_string().into_bytes())
}

fn syscall(rule: &nri::LinuxSyscall) -> Value {
    let args = rule.args.iter().map(
        |arg| json!({ "index": arg.index, "value": arg.value, "valueTwo": arg.value_two, "op": arg.op }),
    );
    let mut rule = json!({
        "names": rule.names,
        "action": rule.action,
        "args": args.collect::<Vec<_>>(),
        "errnoRet": rule.errno_ret.map(|errno| errno.value),
    });
    if rule["errnoRet"].is_null()
        && let Some(fields) = rule.as_object_mut()
    {
        fields.remove("errnoRet");
    }
    rule
}
