//! Device names: `vendor/class=name`.

use std::{fmt, str::FromStr};

/// A well-formed, fully qualified device name (CDI specification, "kind" and "name").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// `vendor/class`.
    pub(crate) kind: String,
    /// Of the device among those of its kind.
    pub(crate) device: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, device) = text.split_once('=').ok_or("is not vendor/class=name")?;
        check_kind(kind)?;
        check_device(device)?;
        Ok(Self { kind: kind.to_owned(), device: device.to_owned() })
    }
}

/// `vendor/class`: a vendor is like a domain name, a class like an identifier.
pub(crate) fn check_kind(kind: &str) -> Result<(), &'static str> {
    let (vendor, class) = kind.split_once('/').ok_or("its kind is not vendor/class")?;
    if !is_word(vendor, "_-.", |first| first.is_ascii_alphabetic()) {
        return Err("its vendor is not made of letters, digits, '_', '-' and '.'");
    }
    if !is_word(class, "_-", |first| first.is_ascii_alphabetic()) {
        return Err("its class is not made of letters, digits, '_' and '-'");
    }
    Ok(())
}

/// What a vendor calls one device.
pub(crate) fn check_device(name: &str) -> Result<(), &'static str> {
    if is_word(name, "_-.:", |first| first.is_ascii_alphanumeric()) {
        Ok(())
    } else {
        Err("its device is not made of letters, digits, '_', '-', '.' and ':'")
    }
}

fn is_word(text: &str, inner: &str, first: impl Fn(char) -> bool) -> bool {
    text.starts_with(first)
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || inner.contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_vendor_class_and_device() {
        for good in ["vendor.com/class=0", "nvidia.com/gpu=all", "a/b=GPU-1:2", "v_x/net-1=eth0.5", "v/c=0"] {
            assert_eq!(good.parse::<Name>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "gpu",
            "vendor/class",
            "vendor=x",
            "/class=x",
            "vendor/=x",
            "vendor/class=",
            "1v/c=x",
            "v/1=x",
            "v/c/d=x",
            "v/c=-x",
            "v/c=x-",
            "v./c=x",
            "v/c=a/b",
            "v/c=../x",
            "v/c=a b",
            "v/c=a=b",
            "v/c=ä",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
