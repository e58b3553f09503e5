//! Docker's swarm of one node. The rules are in `pkg/swarm`; here are its requests, and what they mean for networks.
//!
//! | module | concern |
//! | --- | --- |
//! | `room` | what requests stand on; what is made with a swarm and goes with it |
//! | `shown` | objects in Docker's spelling |
//! | `filtered` | filters of lists: beginnings of ids and names, labels |
//! | `cluster` | `/swarm` |
//! | `nodes` | `/nodes` |
//! | `payloads` | `/secrets`, `/configs` |
//! | `routes` | which of them |

mod cluster;
mod filtered;
mod nodes;
mod payloads;
mod room;
mod routes;
mod shown;

pub(crate) use room::Room;
pub(crate) use routes::route;
