//! How often one user may have a ticket issued.
//!
//! A token is good for many tickets. Without a bound one login fills Redis, and with it the
//! memory in which everybody's tickets wait.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::user::UserId;

/// One user's tickets in one burst.
const BURST: u32 = 50;
/// One user's tickets after the burst: 10 a second.
const SHARE: Duration = Duration::from_millis(100);
/// Users remembered in one generation, of some 30 bytes each. There are two.
const GENERATION: usize = 65_536;

/// Counts tickets by user, in bounded memory.
///
/// A user is remembered as the moment at which all tickets will have been earned again,
/// each a share after the one before (GCRA). When a generation is full, the one before it
/// is forgotten: whoever mints now is in the newer one.
#[derive(Debug)]
pub struct MintRate {
    /// Users are kept as their hashes, by keys of this process: an id may be long, and
    /// nobody can look for two ids with one hash.
    hasher: RandomState,
    remembered: Mutex<Remembered>,
    generation: usize,
}

#[derive(Debug, Default)]
struct Remembered {
    recent: HashMap<u64, Instant>,
    before: HashMap<u64, Instant>,
}

impl Default for MintRate {
    fn default() -> Self {
        Self::with_generation(GENERATION)
    }
}

impl MintRate {
    fn with_generation(generation: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            remembered: Mutex::default(),
            generation,
        }
    }

    /// Counts a ticket of this user; whether it may be minted.
    pub(super) fn takes(&self, user: &UserId) -> bool {
        let (user, now) = (self.hasher.hash_one(user), Instant::now());
        let mut remembered = self.remembered();
        let earned = remembered.get(user).map_or(now, |at| at.max(now)) + SHARE;
        if earned - now > SHARE * BURST {
            return false;
        }
        remembered.recent.insert(user, earned);
        if remembered.recent.len() >= self.generation {
            remembered.before = std::mem::take(&mut remembered.recent);
        }
        true
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        let remembered = self.remembered.lock();
        remembered.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn get(&self, user: u64) -> Option<Instant> {
        let recent = self.recent.get(&user);
        recent.or_else(|| self.before.get(&user)).copied()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).expect("an id")
    }

    fn taken(rate: &MintRate, id: &str) -> u32 {
        let user = user(id);
        (0..1000).map(|_| u32::from(rate.takes(&user))).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn fifty_at_once_and_then_ten_a_second() {
        let rate = MintRate::default();
        assert_eq!(taken(&rate, "42"), 50);
        assert_eq!(taken(&rate, "43"), 50, "another is another");
        advance(Duration::from_secs(1)).await;
        assert_eq!(taken(&rate, "42"), 10);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(taken(&rate, "42"), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn many_users_are_not_all_remembered() {
        let rate = MintRate::with_generation(100);
        for number in 0..1000 {
            assert!(rate.takes(&user(&number.to_string())));
        }
        let remembered = rate.remembered();
        assert!(remembered.recent.len() + remembered.before.len() <= 200);
        drop(remembered);
        // Those of last are.
        assert_eq!(taken(&rate, "999"), 49);
    }
}
