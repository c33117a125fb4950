//! Tickets in this process: for trying Usher out.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Ticket, Unavailable};

/// Tickets at the same time; beyond it no ticket is issued until some expire.
const MAX_TICKETS: usize = 100_000;

/// Values by ticket, with the end of each.
#[derive(Default)]
pub(super) struct Embedded(Mutex<HashMap<String, (String, Instant)>>);

impl Embedded {
    pub(super) fn take(&self, ticket: &Ticket) -> Option<Vec<u8>> {
        let (value, until) = self.tickets().remove(ticket.expose())?;
        (until > Instant::now()).then(|| value.into_bytes())
    }

    pub(super) fn put(
        &self,
        ticket: &Ticket,
        value: String,
        ttl: Duration,
    ) -> Result<(), Unavailable> {
        let now = Instant::now();
        let mut tickets = self.tickets();
        if tickets.len() >= MAX_TICKETS {
            tickets.retain(|_, (_, until)| *until > now);
        }
        if tickets.len() >= MAX_TICKETS {
            return Err(Unavailable);
        }
        tickets.insert(ticket.expose().to_owned(), (value, now + ttl));
        Ok(())
    }

    fn tickets(&self) -> MutexGuard<'_, HashMap<String, (String, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Embedded")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_there_once_and_for_its_time() {
        let store = Embedded::default();
        let (first, second) = (Ticket::mint(), Ticket::mint());
        for ticket in [&first, &second] {
            let stored = store.put(ticket, "42".into(), Duration::from_secs(60));
            assert_eq!(stored, Ok(()));
        }
        assert_eq!(store.take(&first), Some(b"42".to_vec()));
        assert_eq!(store.take(&first), None);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(store.take(&second), None);
    }
}
