//! Kill anything at any moment: huskd, monitors, pauses, and huskd together with CNI plugins.
//!
//! The oracle is what every caller was told: whatever was acknowledged is there afterwards, or was removed by an
//! acknowledged call; no line of a log is missing or doubled; no exit code is wrong; nothing is left at the end.
//!
//! [`lottery`] kills at random moments, from a seed that it prints; [`points`] kills at every system call of a kind in turn.

mod client;
mod life;
mod load;
mod lottery;
mod points;
mod pulls;
mod random;

use lottery::{Kind, Lottery};

/// Kills of a lottery that is part of `make test`.
const FEW: u32 = 30;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a whole number")))
}

#[test]
fn nothing_acknowledged_is_lost_when_huskd_monitors_and_pauses_are_killed() {
    Lottery { kills: FEW, seed: number("HUSK_KILL_SEED", 1), kind: Kind::Embedded }.run();
}

#[test]
fn nothing_acknowledged_is_lost_when_huskd_is_killed_with_or_without_its_cni_plugins() {
    Lottery { kills: FEW, seed: number("HUSK_KILL_SEED", 2), kind: Kind::Cni }.run();
}

/// `hack/kill-test` runs this one by name.
#[test]
#[ignore = "takes many minutes; hack/kill-test runs it"]
fn many_kills() {
    let (kills, seed) = (number("HUSK_KILLS", 1000) as u32, number("HUSK_KILL_SEED", 3));
    for (share, kind) in [(kills / 2, Kind::Embedded), (kills - kills / 2, Kind::Cni)] {
        Lottery { kills: share, seed, kind }.run();
    }
}
