//! What to run, by Docker's rule as Kubernetes documents it ("Define a Command and Arguments for a Container").

use crate::{SpecError, SpecInput};

/// `command` replaces ENTRYPOINT and drops the image's CMD; `args` replace CMD.
pub(crate) fn args(input: &SpecInput<'_>) -> Result<Vec<String>, SpecError> {
    let (command, args) = (&input.container.command, &input.container.args);
    let parts: [&[String]; 2] = match (command.is_empty(), args.is_empty()) {
        (false, _) => [command, args],
        (true, false) => [&input.image.entrypoint, args],
        (true, true) => [&input.image.entrypoint, &input.image.cmd],
    };
    let all = parts.concat();
    if all.is_empty() {
        return Err(SpecError::NoCommand { image: input.image_name.to_owned() });
    }
    Ok(all)
}
