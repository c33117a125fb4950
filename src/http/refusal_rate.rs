//! How often one address may be refused before it is not even looked at.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::address::Address;

/// An address may be refused this many seconds' worth in one burst.
const BURST: u32 = 5;
/// Addresses remembered in one generation. There are two, of some 50 bytes an
/// address: whoever comes from a million addresses costs no more than that.
const GENERATION: usize = 65_536;

/// Counts refusals by address, in bounded memory.
///
/// An address is remembered as the moment at which all its refusals will be
/// forgiven, each a share of a second after the one before (GCRA). When a
/// generation is full the one before it is forgotten, and with it who was
/// refused longest ago.
#[derive(Debug)]
pub(super) struct RefusalRate {
    /// How long one refusal takes to be forgiven.
    share: Duration,
    remembered: Mutex<Remembered>,
    generation: usize,
}

#[derive(Debug, Default)]
struct Remembered {
    recent: HashMap<Address, Instant>,
    before: HashMap<Address, Instant>,
}

impl RefusalRate {
    /// `None` if any number goes.
    pub(super) fn new(per_second: u32) -> Option<Self> {
        Self::with_generation(per_second, GENERATION)
    }

    fn with_generation(per_second: u32, generation: usize) -> Option<Self> {
        Some(Self {
            share: Duration::from_secs(1).checked_div(per_second)?,
            remembered: Mutex::default(),
            generation,
        })
    }

    /// Whether one more refusal would be too many.
    pub(super) fn is_over(&self, client: IpAddr) -> bool {
        let now = Instant::now();
        let forgiven = self.remembered().get(client.into());
        let allowance = Duration::from_secs(BURST.into()) - self.share;
        forgiven.is_some_and(|at| at.duration_since(now) > allowance)
    }

    /// Counts a refusal.
    pub(super) fn count(&self, client: IpAddr) {
        let now = Instant::now();
        let address = Address::from(client);
        let mut remembered = self.remembered();
        let forgiven = remembered.get(address).map_or(now, |at| at.max(now));
        let most = now + Duration::from_secs(BURST.into());
        let forgiven = (forgiven + self.share).min(most);
        remembered.recent.insert(address, forgiven);
        if remembered.recent.len() >= self.generation {
            remembered.before = std::mem::take(&mut remembered.recent);
        }
    }

    /// How many addresses are remembered.
    pub(super) fn len(&self) -> usize {
        let remembered = self.remembered();
        remembered.recent.len() + remembered.before.len()
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn get(&self, address: Address) -> Option<Instant> {
        let recent = self.recent.get(&address);
        recent.or_else(|| self.before.get(&address)).copied()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn refused(rate: &RefusalRate, client: &str) -> usize {
        let client = client.parse().expect("an address");
        let mut refused = 0;
        while !rate.is_over(client) {
            rate.count(client);
            refused += 1;
        }
        refused
    }

    #[tokio::test(start_paused = true)]
    async fn five_seconds_worth_and_then_the_rate() {
        for per_second in [1, 3, 7, 100] {
            let rate = RefusalRate::new(per_second).expect("a limit");
            let burst = 5 * per_second as usize;
            assert_eq!(refused(&rate, "192.0.2.1"), burst);
            assert_eq!(refused(&rate, "192.0.2.1"), 0);
            assert_eq!(refused(&rate, "192.0.2.2"), burst, "another is another");
            advance(Duration::from_secs(2)).await;
            assert_eq!(refused(&rate, "192.0.2.1"), 2 * per_second as usize);
            advance(Duration::from_secs(3600)).await;
            assert_eq!(refused(&rate, "192.0.2.1"), burst);
        }
        assert!(RefusalRate::new(0).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_is_one_address() {
        let rate = RefusalRate::new(1).expect("a limit");
        assert_eq!(refused(&rate, "2001:db8:0:1::1"), 5);
        assert_eq!(refused(&rate, "2001:db8:0:1:ffff::2"), 0);
        assert_eq!(refused(&rate, "2001:db8:0:2::1"), 5);
        assert_eq!(refused(&rate, "192.0.2.1"), 5);
        assert_eq!(refused(&rate, "::ffff:192.0.2.1"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_million_addresses_are_not_all_remembered() {
        let rate = RefusalRate::new(1).expect("a limit");
        for client in 0..1_000_000_u32 {
            rate.count(std::net::Ipv4Addr::from(client).into());
        }
        assert!(rate.len() < 2 * GENERATION, "{}", rate.len());
        // Those of last are.
        let last = std::net::Ipv4Addr::from(999_999).to_string();
        assert_eq!(refused(&rate, &last), 4);
    }
}
