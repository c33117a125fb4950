//! Which numbers of a series have come.

use std::collections::VecDeque;

/// How far a number may lie below the highest one. One that lies lower counts as a duplicate.
const WINDOW: u64 = 1 << 16;

/// The numbers that were seen, a bit each; what lies before the window is forgotten.
#[derive(Default)]
pub(super) struct Seen {
    /// The first number of the first word.
    base: u64,
    words: VecDeque<u64>,
}

impl Seen {
    /// Whether the number is new.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        if number < self.base {
            return false;
        }
        if number - self.base >= 2 * WINDOW {
            // Far ahead: nothing of the window is left.
            self.words.clear();
            self.base = number / 64 * 64;
        }
        let (word, bit) = ((number - self.base) / 64, 1 << (number % 64));
        while self.words.len() as u64 <= word {
            self.words.push_back(0);
        }
        let found = &mut self.words[word as usize];
        let new = *found & bit == 0;
        *found |= bit;
        let full = |words: &VecDeque<u64>| words.front() == Some(&u64::MAX);
        while full(&self.words) || self.words.len() as u64 > WINDOW / 64 {
            self.words.pop_front();
            self.base += 64;
        }
        new
    }

    /// Whether the number was seen. One before the window counts as seen.
    pub(super) fn contains(&self, number: u64) -> bool {
        let Some(above) = number.checked_sub(self.base) else {
            return true;
        };
        let word = usize::try_from(above / 64).ok();
        let word = word.and_then(|word| self.words.get(word));
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once() {
        let mut seen = Seen::default();
        for number in [0, 2, 1, 63, 64, 200, 130] {
            assert!(seen.insert(number), "{number}");
            assert!(!seen.insert(number), "{number}");
        }
        for number in 0..1_000 {
            let before = [0, 1, 2, 63, 64, 130, 200].contains(&number);
            assert_eq!(seen.insert(number), !before, "{number}");
        }
        assert!(seen.words.len() <= 1, "what is complete takes no memory");
    }

    #[test]
    fn a_hole_takes_bounded_memory() {
        let mut seen = Seen::default();
        for number in 1..4 * WINDOW {
            assert!(seen.insert(number));
        }
        assert!(seen.words.len() as u64 <= WINDOW / 64);
        assert!(!seen.insert(0), "too late");
        assert!(seen.insert(1 << 40));
        assert!(!seen.insert(1 << 40));
        assert!(seen.words.len() as u64 <= WINDOW / 64);
    }
}
