//! Lines of /etc/passwd and /etc/group, as the C library reads them.
//!
//! What is followed is glibc's parser (nss/nss_parse_line, getpwent in files): a line may be short of its last fields, may
//! have any bytes in it, and whatever it cannot be is somebody else's line and passed over. Differences, all to the safe side:
//!
//! | what | glibc | musl | moby/sys/user (runc, containerd) | here |
//! | --- | --- | --- | --- | --- |
//! | fewer than four fields in passwd | no entry | no entry | missing ids are 0 | no entry |
//! | four to six fields in passwd | an entry | no entry | an entry | an entry |
//! | an id that is empty or no number | no entry | 0 | 0 | no entry |
//! | an id that does not fit 31 bits | cut to fit | cut to fit | 0 | no entry |
//! | an empty name | an entry | an entry | an entry | no entry |
//! | a name that begins with `+` or `-` (NIS) | no entry | an entry | an entry | no entry |
//! | lines longer than 64 KiB | read | read | failure | read |
//! | the first of two entries | wins | wins | wins | wins |

/// Highest id, as in Kubernetes: ids are `int32` there.
pub(crate) const MAX_ID: u32 = i32::MAX as u32;

/// An entry of /etc/passwd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User<'file> {
    pub name: &'file [u8],
    pub uid: u32,
    pub gid: u32,
    /// May be empty.
    pub home: &'file [u8],
}

/// An entry of /etc/group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group<'file> {
    pub name: &'file [u8],
    pub gid: u32,
    members: &'file [u8],
}

/// The entries of an /etc/passwd, in its order.
pub(crate) fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let (name, _password) = (name(fields.next()?)?, fields.next()?);
        let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
        Some(User { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

/// The entries of an /etc/group, in its order.
pub(crate) fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.splitn(4, |&byte| byte == b':');
        let (name, _password) = (name(fields.next()?)?, fields.next()?);
        Some(Group { name, gid: id(fields.next()?)?, members: fields.next().unwrap_or_default() })
    })
}

impl Group<'_> {
    /// Whether the list of members has this user. Empty places in it are nobody.
    pub(crate) fn has(&self, user: &[u8]) -> bool {
        let mut members = self.members.split(|&byte| byte == b',').map(<[u8]>::trim_ascii_start);
        !user.is_empty() && members.any(|member| member == user)
    }
}

/// Lines that are neither empty nor comments. Blanks before a line are not part of it, nor is the carriage return of an
/// editor that ends lines with two characters.
fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start())
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

fn name(field: &[u8]) -> Option<&[u8]> {
    (!field.is_empty() && !field.starts_with(b"+") && !field.starts_with(b"-")).then_some(field)
}

/// As strtoul(3) reads a number that fills its field: blanks and a plus may come before it.
fn id(field: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(field.trim_ascii_start()).ok()?;
    text.parse().ok().filter(|&id| id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(line: &[u8]) -> Option<User<'_>> {
        users(line).next()
    }

    #[test]
    fn a_line_may_be_short_of_what_nobody_asked_for() {
        let entry = |home| Some(User { name: b"app", uid: 7, gid: 8, home });
        for line in [&b"app:x:7:8"[..], b"app:x:7:8:", b"app:x:7:8:gecos", b"app::7:8:gecos:"] {
            assert_eq!(user(line), entry(b""), "{}", line.escape_ascii());
        }
        assert_eq!(user(b"app:x:7:8:gecos:/home"), entry(b"/home"));
        assert_eq!(user(b"app:x:7:8:gecos:/home:/bin/sh:more"), entry(b"/home"));
        for line in [&b"app"[..], b"app:x", b"app:x:7", b""] {
            assert_eq!(user(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn other_bytes_and_blanks_do_not_hide_an_entry() {
        let entry = Some(User { name: b"app", uid: 7, gid: 8, home: b"/h" });
        for line in [
            &b"  app:x:7:8::/h:"[..],
            b"\tapp:x:7:8:a\tb:/h:/bin/sh",
            b"app:\xff\xfe:7:8:\xfcser:/h:/bin/sh\r",
            b"app:x: 7:\t8::/h:",
            b"app:x:+7:008::/h:",
        ] {
            assert_eq!(user(line), entry, "{}", line.escape_ascii());
        }
        assert_eq!(
            user(b"\xfc:x:7:8::/\xff:").map(|user| (user.name, user.home)),
            Some((&b"\xfc"[..], &b"/\xff"[..]))
        );
    }

    #[test]
    fn what_is_no_entry_is_passed_over() {
        let file = b"# app:x:1:1::/:\n+::::::\n+app:x:0:0::/:\n-app:x:0:0::/:\n:x:0:0::/:\napp\napp:x::1::/:\n\
            app:x:1:::/:\napp:x:-1:1::/:\napp:x:1 :1::/:\napp:x:0x1:1::/:\napp:x:4294967296:1::/:\n\
            app:x:2147483648:1::/:\napp:x:99999999999999999999:1::/:\n\0\n\n\napp:x:7:8::/h:\napp:x:9:9::/second:";
        assert_eq!(user(file), Some(User { name: b"app", uid: 7, gid: 8, home: b"/h" }));
    }

    #[test]
    fn a_group_needs_no_list_and_an_empty_place_in_it_is_nobody() {
        let file = b"a:x:1\nb:x:2:\nc:x:3:x, app ,y\nd:x:4:x, app\ne:x:5:app:not\nf:x:x:app\ng:x:6:\xff,app\r\nh:x:7:,,";
        let with = |user: &[u8]| {
            groups(file).filter(|group| group.has(user)).map(|group| group.gid).collect::<Vec<_>>()
        };
        assert_eq!(groups(file).map(|group| group.gid).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(with(b"app"), [4, 6]);
        assert_eq!(with(b""), [0; 0]);
        assert_eq!(with(b"ap"), [0; 0]);
    }
}
