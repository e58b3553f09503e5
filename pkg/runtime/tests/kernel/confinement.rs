//! confinement
use crate::{cases, world::World};
cases![];
