//! mounts
use crate::{cases, world::World};
cases![];
