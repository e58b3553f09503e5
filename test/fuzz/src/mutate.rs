//! Mutations without coverage: blind, but the same ones in every run.

/// Numbers that programs get wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// Makes inputs of inputs. The same seed makes the same ones.
#[derive(Debug)]
pub struct Mutator(u64);

impl Mutator {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Changes one of `pool` in a few places; at most `length` bytes come out.
    pub fn next(&mut self, pool: &[Vec<u8>], length: usize) -> Vec<u8> {
        let mut bytes = self.choose(pool).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, pool);
        }
        bytes.truncate(length);
        bytes
    }

    /// xorshift64*.
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.number() >> 16) as usize % limit.max(1)
    }

    fn choose<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }

    fn change(&mut self, bytes: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(64)).min(bytes.len());
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.number() as u8,
            2 => bytes.insert(at, self.number() as u8),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                let times = 1 + self.below(8);
                bytes.splice(at..at, piece.repeat(times));
            }
            5 => {
                let other = self.choose(pool).cloned().unwrap_or_default();
                let from = self.below(other.len());
                let to = (from + self.below(600)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            6 => {
                let number = self.choose(&NUMBERS).copied().unwrap_or_default();
                let width = 1 << self.below(4);
                let raw = match self.below(2) {
                    0 => number.to_le_bytes()[..width].to_vec(),
                    _ => number.to_be_bytes()[8 - width..].to_vec(),
                };
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, raw);
            }
            _ => {
                let number = self.choose(&NUMBERS).copied().unwrap_or_default();
                bytes.splice(at..end, number.to_string().into_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_another_makes_others() {
        let pool = [b"a first input".to_vec(), b"another".to_vec()];
        let made = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..100).map(|_| mutator.next(&pool, 20)).collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        assert!(made(3).iter().all(|bytes| bytes.len() <= 20));
    }
}
