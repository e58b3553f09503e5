//! A waiting room for connections whose client has not shown yet that it may ask for anything.
//!
//! A listener that takes a place per connection and stops accepting when all are taken is stopped by as many silent
//! connections. Here nobody waits: a newcomer always gets in, and when the room is full the one that has been silent for
//! longest is put out. So an attacker must bring the room's size of connections in the time that an honest client needs
//! for its first request, and nobody stays longer than the time limit, however slowly it talks.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

/// The room.
#[derive(Debug)]
pub struct Lobby {
    room: Mutex<Room>,
    most: usize,
    patience: Duration,
}

#[derive(Debug, Default)]
struct Room {
    next: u64,
    /// By arrival. Telling one that it is out ends its connection; forgetting it lets it stay.
    guests: BTreeMap<u64, oneshot::Sender<()>>,
}

/// Why a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It said nothing of use for as long as guests may take.
    Late,
    /// It was the oldest when the room was full.
    Crowded,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cut::Late => "it took too long to make its request",
            Cut::Crowded => "it was the oldest of too many connections that had not made a request",
        })
    }
}

impl Lobby {
    /// A room for `most` guests (at least one), each of whom may stay for `patience`.
    pub fn new(most: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { room: Mutex::default(), most: most.max(1), patience })
    }

    /// Serves a connection as a guest until it ends, or until it is put out. From [`Guest::leave`] on it is a guest no
    /// more, and `serve` may take as long as it likes.
    ///
    /// # Errors
    /// When it was put out; `serve` was dropped.
    pub async fn host<T, F: Future<Output = T>>(
        self: &Arc<Self>,
        serve: impl FnOnce(Guest) -> F,
    ) -> Result<T, Cut> {
        let (guest, put_out) = self.admit();
        // Whatever `serve` does with its copy, the place is kept until it ends.
        let _place = guest.clone();
        let cut = async {
            match tokio::time::timeout(self.patience, put_out).await {
                Ok(Ok(())) => Cut::Crowded,
                Err(_) => Cut::Late,
                // It left the room: nobody puts it out any more.
                Ok(Err(_)) => std::future::pending().await,
            }
        };
        // Both are polled here alone, so dropping the one that lost ends it.
        tokio::select! {
            biased;
            cut = cut => Err(cut),
            done = serve(guest) => Ok(done),
        }
    }

    fn admit(self: &Arc<Self>) -> (Guest, oneshot::Receiver<()>) {
        let (put_out, told) = oneshot::channel();
        let mut room = self.room();
        while room.guests.len() >= self.most {
            let Some((_, oldest)) = room.guests.pop_first() else { break };
            // One that has just ended by itself does not hear it.
            let _ = oldest.send(());
        }
        let number = room.next;
        room.next += 1;
        room.guests.insert(number, put_out);
        (Guest(Arc::new(Place { lobby: Arc::clone(self), number })), told)
    }

    /// Guests at the moment.
    pub fn guests(&self) -> usize {
        self.room().guests.len()
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the room, which ends with the connection.
#[derive(Debug, Clone)]
pub struct Guest(Arc<Place>);

impl Guest {
    /// The client has shown that it may ask: it gives up its place and is not put out any more. `false` when it was put
    /// out already, and must not be served.
    #[must_use = "a guest that was put out must not be served"]
    pub fn leave(&self) -> bool {
        self.0.lobby.room().guests.remove(&self.0.number).is_some()
    }
}

#[derive(Debug)]
struct Place {
    lobby: Arc<Lobby>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.room().guests.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A guest that says nothing, on a task of its own.
    async fn silent(lobby: &Arc<Lobby>) -> tokio::task::JoinHandle<Result<(), Cut>> {
        let (inside, entered) = oneshot::channel();
        let lobby = Arc::clone(lobby);
        let task = tokio::spawn(async move {
            lobby
                .host(|guest| async move {
                    let _ = inside.send(());
                    drop(guest);
                    std::future::pending::<()>().await;
                })
                .await
        });
        entered.await.unwrap();
        task
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_makes_room_for_a_newcomer_who_is_served_at_once() {
        let lobby = Lobby::new(2, PATIENCE);
        let (first, second) = (silent(&lobby).await, silent(&lobby).await);
        assert_eq!(lobby.host(|_| async { 7 }).await, Ok(7));
        assert_eq!(first.await.unwrap(), Err(Cut::Crowded));
        assert!(!second.is_finished());
        assert_eq!(lobby.guests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_guest_is_put_out_in_time_and_its_place_is_free() {
        let lobby = Lobby::new(8, PATIENCE);
        let came = tokio::time::Instant::now();
        assert_eq!(silent(&lobby).await.await.unwrap(), Err(Cut::Late));
        // By the clock of the test, which stands still while anybody has something to do.
        assert!(came.elapsed() < PATIENCE * 2, "{:?}", came.elapsed());
        assert_eq!(lobby.guests(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_left_is_neither_late_nor_in_the_way() {
        let lobby = Lobby::new(1, PATIENCE);
        let served = lobby.host(|guest| async move {
            assert!(guest.leave());
            tokio::time::sleep(PATIENCE * 9).await;
            assert!(!guest.leave(), "once");
        });
        tokio::pin!(served);
        tokio::select! {
            biased;
            _ = &mut served => panic!("it goes on"),
            () = std::future::ready(()) => {}
        }
        let other = silent(&lobby).await;
        assert_eq!(served.await, Ok(()));
        assert_eq!(other.await.unwrap(), Err(Cut::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_put_out_cannot_leave_as_a_client() {
        let lobby = Lobby::new(1, PATIENCE);
        let (guest, told) = lobby.admit();
        let (_other, _) = lobby.admit();
        assert!(!guest.leave());
        told.await.unwrap();
        drop(guest);
        assert_eq!(lobby.guests(), 1);
    }
}
