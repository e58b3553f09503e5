//! users
use crate::{cases, world::World};
cases![];
