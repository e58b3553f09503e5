//! Syscall numbers by name and architecture.

mod numbers;

use crate::arch::Arch;

use numbers::NUMBERS;

/// The number of `name` on `arch`, without the x32 bit; `None` if that architecture has no such call.
pub(crate) fn number(arch: Arch, name: &str) -> Option<u32> {
    let at = NUMBERS.binary_search_by_key(&name, |(name, _)| name).ok()?;
    let column = match arch {
        Arch::X86_64 => 0,
        Arch::X86 => 1,
        Arch::X32 => 2,
        Arch::Aarch64 => 3,
        Arch::Arm => 4,
    };
    u32::try_from(NUMBERS[at].1[column]).ok()
}

/// Whether any architecture has a call of this name.
pub(crate) fn is_known(name: &str) -> bool {
    NUMBERS.binary_search_by_key(&name, |(name, _)| name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_free_of_repeats() {
        assert!(NUMBERS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for column in 0..5 {
            // ARM has two names for some calls.
            let mut numbers: Vec<_> = NUMBERS.iter().map(|row| row.1[column]).filter(|n| *n >= 0).collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert!(all - numbers.len() <= 2, "column {column}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        assert_eq!(number(Arch::X86_64, "execve"), Some(59));
        assert_eq!(number(Arch::X86, "execve"), Some(11));
        assert_eq!(number(Arch::X32, "execve"), Some(520));
        assert_eq!(number(Arch::Aarch64, "execve"), Some(221));
        assert_eq!(number(Arch::Arm, "execve"), Some(11));
        assert_eq!(number(Arch::X86_64, "socketcall"), None);
        assert_eq!(number(Arch::X86_64, "no_such_call"), None);
    }
}
