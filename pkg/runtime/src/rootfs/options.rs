//! Mount options of the spec: those of fstab, their recursive forms (OCI `r`-prefixed), propagation, and the filesystem's own.

use std::path::PathBuf;

use husk_sys::mount::{Attr, Change, Propagation};

/// The option that gives all files of a filesystem one SELinux context.
pub(crate) const CONTEXT: &str = "context";

/// Sorted options of one mount.
#[derive(Debug)]
pub(crate) struct Options {
    /// Of the mount itself.
    pub top: Change,
    /// Of the mount and everything below it.
    pub recursive: Change,
    /// What a bind mount loses of its source besides, where the kernel lets it ([`Self::exact`]).
    pub implied: Attr,
    /// And whether it goes for the mounts below as well.
    pub propagation: Option<(Propagation, bool)>,
    /// `bind` (false) or `rbind` (true).
    pub bind: Option<bool>,
    /// `idmap` (false) or `ridmap` (true).
    pub idmap: Option<bool>,
    /// The new filesystem begins with what it covers.
    pub copy_up: bool,
    /// Of a bind mount, what is bound is at this path below the source, whose content is not trusted.
    pub sub_path: Option<PathBuf>,
    /// For the filesystem: key and value.
    pub data: Vec<(String, Option<String>)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            top: Change::default(),
            recursive: Change::default(),
            implied: Attr::empty(),
            propagation: None,
            bind: None,
            idmap: None,
            copy_up: false,
            sub_path: None,
            data: Vec::new(),
        }
    }
}

impl Options {
    /// As runc has it for bind mounts: who names an attribute gets exactly those that he names, and who names none gets the source's. Of
    /// access times what is not named stays. In a user namespace so do the attributes that it cannot take back.
    pub(crate) fn exact(&mut self, user_namespace: bool) {
        if self.top.set.is_empty() && self.top.clear.is_empty() {
            return;
        }
        let locked = Attr::MOUNT_ATTR_RDONLY
            | Attr::MOUNT_ATTR_NOSUID
            | Attr::MOUNT_ATTR_NODEV
            | Attr::MOUNT_ATTR_NOEXEC;
        let free = Attr::MOUNT_ATTR_NOSYMFOLLOW;
        let all = if user_namespace { free } else { free | locked };
        self.implied = all - self.top.set - self.recursive.set;
    }

    /// # Errors
    /// The option that husk does not support.
    pub(crate) fn parse(options: &[String]) -> Result<Self, String> {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option)?;
        }
        Ok(parsed)
    }

    /// Whether the mount itself is to be read-only.
    pub(crate) fn readonly(&self) -> bool {
        (self.top.set | self.recursive.set).contains(Attr::MOUNT_ATTR_RDONLY)
    }

    /// The SELinux context of all files.
    pub(crate) fn context(&self) -> Option<&str> {
        self.data.iter().find(|(key, _)| key == CONTEXT).and_then(|(_, value)| value.as_deref())
    }

    fn add(&mut self, option: &str) -> Result<(), String> {
        match option {
            "defaults" | "async" | "rw,defaults" => {}
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "remount" => return Err(option.to_owned()),
            _ => {
                if let Some(path) = option.strip_prefix("husk.subpath=") {
                    self.sub_path = Some(path.into());
                } else if let Some(propagation) = propagation(option) {
                    self.propagation = Some(propagation);
                } else if let Some((attribute, set)) = attribute(option) {
                    apply(&mut self.top, attribute, set);
                } else if let Some((attribute, set)) = option.strip_prefix('r').and_then(attribute) {
                    apply(&mut self.recursive, attribute, set);
                } else {
                    let (key, value) = match option.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (option, None),
                    };
                    self.data.push((key.to_owned(), value));
                }
            }
        }
        Ok(())
    }
}

/// The last word wins, as on a command line.
fn apply(change: &mut Change, attribute: Attr, set: bool) {
    let field = if attribute.intersects(Attr::MOUNT_ATTR__ATIME) || attribute.is_empty() {
        Attr::MOUNT_ATTR__ATIME
    } else {
        attribute
    };
    change.set.remove(field);
    change.clear.remove(field);
    if set {
        change.set.insert(attribute);
        // "relatime" is the value 0 of the access-time field: setting it is clearing the field.
        if attribute.is_empty() {
            change.clear.insert(Attr::MOUNT_ATTR__ATIME);
        }
    } else {
        change.clear.insert(field);
    }
}

fn attribute(option: &str) -> Option<(Attr, bool)> {
    Some(match option {
        "ro" => (Attr::MOUNT_ATTR_RDONLY, true),
        "rw" => (Attr::MOUNT_ATTR_RDONLY, false),
        "nosuid" => (Attr::MOUNT_ATTR_NOSUID, true),
        "suid" => (Attr::MOUNT_ATTR_NOSUID, false),
        "nodev" => (Attr::MOUNT_ATTR_NODEV, true),
        "dev" => (Attr::MOUNT_ATTR_NODEV, false),
        "noexec" => (Attr::MOUNT_ATTR_NOEXEC, true),
        "exec" => (Attr::MOUNT_ATTR_NOEXEC, false),
        "nodiratime" => (Attr::MOUNT_ATTR_NODIRATIME, true),
        "diratime" => (Attr::MOUNT_ATTR_NODIRATIME, false),
        "nosymfollow" => (Attr::MOUNT_ATTR_NOSYMFOLLOW, true),
        "symfollow" => (Attr::MOUNT_ATTR_NOSYMFOLLOW, false),
        "noatime" => (Attr::MOUNT_ATTR_NOATIME, true),
        "atime" => (Attr::MOUNT_ATTR_NOATIME, false),
        "strictatime" => (Attr::MOUNT_ATTR_STRICTATIME, true),
        "nostrictatime" => (Attr::MOUNT_ATTR_STRICTATIME, false),
        "relatime" => (Attr::empty(), true),
        "norelatime" => (Attr::MOUNT_ATTR_STRICTATIME, true),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<(Propagation, bool)> {
    let (name, recursive) = match option.strip_prefix('r') {
        Some(name) => (name, true),
        None => (option, false),
    };
    Some((
        match name {
            "private" => Propagation::Private,
            "shared" => Propagation::Shared,
            "slave" => Propagation::Slave,
            "unbindable" => Propagation::Unbindable,
            _ => return None,
        },
        recursive,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        Options::parse(&options.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn options_are_sorted_by_whom_they_concern() {
        let options = parse(&["rbind", "rro", "nosuid", "rslave", "size=64m", "nr_inodes=5"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.recursive.set, Attr::MOUNT_ATTR_RDONLY);
        assert_eq!(options.top.set, Attr::MOUNT_ATTR_NOSUID);
        assert_eq!(options.propagation, Some((Propagation::Slave, true)));
        assert_eq!(options.data[0], ("size".to_owned(), Some("64m".to_owned())));
    }

    #[test]
    fn the_last_of_contradicting_options_wins() {
        assert!(!parse(&["ro", "rw"]).readonly());
        assert!(parse(&["rw", "ro"]).readonly());
        let options = parse(&["noatime", "relatime"]);
        assert_eq!((options.top.set, options.top.clear), (Attr::empty(), Attr::MOUNT_ATTR__ATIME));
    }

    #[test]
    fn who_names_an_attribute_of_a_bind_mount_gets_those_alone() {
        let exact = |options: &[&str], user_namespace| {
            let mut options = parse(options);
            options.exact(user_namespace);
            options.implied
        };
        assert!(exact(&["bind", "rprivate"], false).is_empty());
        let lost = exact(&["bind", "nosuid", "rnodev"], false);
        assert!(lost.contains(Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOEXEC));
        assert!(!lost.intersects(Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR__ATIME));
        assert_eq!(exact(&["bind", "nosuid"], true), Attr::MOUNT_ATTR_NOSYMFOLLOW);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        assert_eq!(Options::parse(&["remount".to_owned()]).unwrap_err(), "remount");
    }
}
