//! One client's address, as limits by address count it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// An IPv4 address, or the /64 network of an IPv6 one: a subscriber has at least all of
/// a /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Address(u64);

impl From<IpAddr> for Address {
    fn from(client: IpAddr) -> Self {
        Self(match client.to_canonical() {
            IpAddr::V4(ip) => u32::from(ip).into(),
            // Only ::/32, which is nobody's, looks like IPv4 then.
            IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
        })
    }
}

/// Counts what each address holds, up to a limit for one address.
///
/// An address is remembered while it holds a permit, so the memory is bounded by
/// whatever bounds the permits of all addresses together.
#[derive(Debug)]
pub(super) struct PermitsByAddress {
    most: usize,
    held: Mutex<HashMap<Address, usize>>,
}

/// One of an address's permits, until it is dropped.
#[derive(Debug)]
pub(super) struct AddressPermit {
    of: Arc<PermitsByAddress>,
    address: Address,
}

impl PermitsByAddress {
    /// At most `most` permits for one address; `None` for 0, which is no limit.
    pub(super) fn new(most: usize) -> Option<Arc<Self>> {
        (most > 0).then(|| {
            Arc::new(Self {
                most,
                held: Mutex::default(),
            })
        })
    }

    /// A permit; `None` where the address holds all of its own.
    pub(super) fn take(self: &Arc<Self>, client: IpAddr) -> Option<AddressPermit> {
        let address = Address::from(client);
        let mut held = self.held();
        let count = held.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(AddressPermit {
            of: self.clone(),
            address,
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Address, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut held = self.of.held();
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_permits_and_is_forgotten_with_the_last() {
        let permits = PermitsByAddress::new(2).expect("a limit");
        let take = |client: &str| permits.take(client.parse().expect("an address"));
        let first = take("2001:db8:0:1::1");
        let second = take("2001:db8:0:1:ffff::2");
        assert!(first.is_some() && second.is_some());
        assert!(take("2001:db8:0:1::3").is_none(), "a /64 is one address");
        let other = take("2001:db8:0:2::1");
        let v4 = [take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(other.is_some() && v4.iter().all(Option::is_some));
        assert!(take("192.0.2.1").is_none());
        drop(first);
        assert!(take("2001:db8:0:1::3").is_some());
        drop((second, other, v4));
        assert_eq!(permits.held().len(), 0);
        assert!(PermitsByAddress::new(0).is_none());
    }
}
