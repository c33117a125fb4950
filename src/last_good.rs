//! What a file said when it was good last.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// The value of the last reading that was good. Clones share it.
pub struct LastGood<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    value: Option<T>,
    /// What was wrong with the file last, so that the log says it once.
    complaint: Option<String>,
}

impl<T: Clone> LastGood<T> {
    /// The value that was `read`. Where the file is not good, the value before it, with an error
    /// in the log.
    ///
    /// # Errors
    ///
    /// The file is not good and never was.
    pub fn or_before<E: fmt::Display>(&self, read: Result<T, E>) -> Result<T, E> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (read, state.value.clone()) {
            (Ok(value), _) => {
                state.value = Some(value.clone());
                state.complaint = None;
                Ok(value)
            }
            (Err(error), None) => Err(error),
            (Err(error), Some(value)) => {
                let complaint = error.to_string();
                if state.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(%error, "a file is not good; what it said before stays in use");
                    state.complaint = Some(complaint);
                }
                Ok(value)
            }
        }
    }
}

impl<T> Default for LastGood<T> {
    fn default() -> Self {
        let state = State {
            value: None,
            complaint: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }
}

impl<T> Clone for LastGood<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// All are equal: what names a file is compared by its name.
impl<T> PartialEq for LastGood<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for LastGood<T> {}

/// The value may be a secret.
impl<T> fmt::Debug for LastGood<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastGood(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_leaves_the_value_before_it_in_use() {
        let file = LastGood::default();
        assert_eq!(file.or_before(Err("bad")), Err("bad"));
        assert_eq!(file.or_before::<&str>(Ok(1)), Ok(1));
        let clone = file.clone();
        assert_eq!(clone.or_before(Err("bad")), Ok(1));
        assert_eq!(clone.or_before::<&str>(Ok(2)), Ok(2));
        assert_eq!(file.or_before(Err("bad")), Ok(2));
    }
}
