//! Patterns of `imports` as Go's `filepath.Match` has them, within one part of a path: `*`, `?`, `[a-z]`, `[^a-z]`, `\`.

/// Whether `name` is what `pattern` means. A pattern that is none matches nothing.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // The place behind the last star, and where it began to take: on a mismatch the star takes one character more. So it
    // is quadratic at most, whoever wrote the pattern.
    let mut star: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if let Some(next) = one(&pattern, p, name[n]) {
            p = next;
            n += 1;
        } else if let Some((behind, taken)) = star {
            star = Some((behind, taken + 1));
            p = behind;
            n = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Whether a path has a pattern in it; containerd looks for a star alone (`resolveImports`).
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains('*')
}

/// The place behind the one element at `p` if `c` fits it.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => class(pattern, p + 1, c),
        '\\' => (pattern.get(p + 1) == Some(&c)).then_some(p + 2),
        plain => (*plain == c).then_some(p + 1),
    }
}

fn class(pattern: &[char], mut p: usize, c: char) -> Option<usize> {
    let negated = matches!(pattern.get(p)?, '^' | '!');
    p += usize::from(negated);
    let (mut found, first) = (false, p);
    loop {
        match (*pattern.get(p)?, pattern.get(p + 1), pattern.get(p + 2)) {
            (']', ..) if p > first => return (found != negated).then_some(p + 1),
            (low, Some('-'), Some(high)) if *high != ']' => {
                found |= (low..=*high).contains(&c);
                p += 3;
            }
            (plain, ..) => {
                found |= plain == c;
                p += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, fits) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml.bak", false),
            ("runtime_*.toml", "runtime_.toml", true),
            ("?[a-c]x", "ab", false),
            ("?[a-c]x", "zbx", true),
            ("[^0-9]*", "9a", false),
            ("a\\*b", "a*b", true),
            ("a*b*c", "aXbYbZc", true),
            ("[", "[", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        assert!(!matches(&"*a".repeat(2000), &"a".repeat(1999)));
    }
}
