//! Names as Docker's clients show them: `busybox:latest` is what the store calls `docker.io/library/busybox:latest`.

/// A full name in Docker's short form.
pub(crate) fn familiar(full: &str) -> &str {
    let Some(rest) = full.strip_prefix("docker.io/") else { return full };
    match rest.strip_prefix("library/") {
        Some(own) if !own.contains('/') => own,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dockers_rule_adds_is_left_out() {
        for (full, shown) in [
            ("docker.io/library/busybox:latest", "busybox:latest"),
            ("docker.io/user/app:1", "user/app:1"),
            ("docker.io/library/a/b:1", "library/a/b:1"),
            ("registry.k8s.io/pause:3", "registry.k8s.io/pause:3"),
            ("localhost:5000/library/x:1", "localhost:5000/library/x:1"),
        ] {
            assert_eq!(familiar(full), shown);
        }
    }
}
