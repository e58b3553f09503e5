//! exec
use crate::{cases, world::World};
cases![];
