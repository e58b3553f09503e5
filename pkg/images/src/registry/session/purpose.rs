//! What a session is for, which is what its tokens have to allow.

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reading from the repository.
    Pull,
    /// Writing to it, too.
    Push,
    /// Nothing of a repository: whether the registry knows who asks, or a search.
    Registry,
}

impl Purpose {
    /// The scope of a token: what the registry asked for, and what this needs besides; scopes are separated by spaces.
    pub(super) fn scope(self, asked: Option<&str>, repository: &str) -> String {
        let own = match self {
            Self::Pull => format!("repository:{repository}:pull"),
            Self::Push => format!("repository:{repository}:pull,push"),
            Self::Registry => String::new(),
        };
        match (self, asked) {
            // What is asked for reading is not enough, and one token shall do for both.
            (Self::Push, Some(asked)) => {
                let prefix = format!("repository:{repository}:");
                let others = asked.split_whitespace().filter(|scope| !scope.starts_with(&prefix));
                std::iter::once(own.as_str()).chain(others).collect::<Vec<_>>().join(" ")
            }
            (_, Some(asked)) => asked.to_owned(),
            (_, None) => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_asks_for_leave_to_write_whatever_the_registry_asked_for() {
        for (purpose, asked, scope) in [
            (Purpose::Pull, None, "repository:a/b:pull"),
            (Purpose::Pull, Some("repository:c:pull"), "repository:c:pull"),
            (Purpose::Push, None, "repository:a/b:pull,push"),
            (Purpose::Push, Some("repository:a/b:pull"), "repository:a/b:pull,push"),
            (
                Purpose::Push,
                Some("repository:a/b:pull,push  repository:from:pull"),
                "repository:a/b:pull,push repository:from:pull",
            ),
            (Purpose::Registry, None, ""),
            (Purpose::Registry, Some("registry:catalog:*"), "registry:catalog:*"),
        ] {
            assert_eq!(purpose.scope(asked, "a/b"), scope);
        }
    }
}
