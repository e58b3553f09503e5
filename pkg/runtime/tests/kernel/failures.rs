//! failures
use crate::{cases, world::World};
cases![];
