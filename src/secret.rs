//! A text that never shows itself, and may be replaced while it is in use.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// A token or a password. `Debug` hides it and there is no `Display`, so that
/// no log line, error or panic carries it: only [`Secret::expose`] gives it out.
///
/// Clones share it: whoever exposes it after a [`Secret::replace`] gets the new text. So a
/// password that changed holds from the next use on, wherever it was handed to.
#[derive(Clone)]
pub struct Secret(Arc<RwLock<String>>);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(RwLock::new(text.into())))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> String {
        let text = self.0.read().unwrap_or_else(PoisonError::into_inner);
        text.clone()
    }

    /// Takes over the text of another one, in all clones.
    pub fn replace(&self, other: &Self) {
        let text = other.expose();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Several secrets, any of which is good. Clones share them, as those of a [`Secret`] do.
#[derive(Clone)]
pub struct Secrets(Arc<RwLock<Arc<[Secret]>>>);

impl Secrets {
    /// Those that are good now.
    pub fn get(&self) -> Arc<[Secret]> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.clone()
    }

    /// Only these are good from now on.
    pub fn replace(&self, secrets: Vec<Secret>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets.into();
    }
}

impl From<Vec<Secret>> for Secrets {
    fn from(secrets: Vec<Secret>) -> Self {
        Self(Arc::new(RwLock::new(secrets.into())))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_only_when_asked() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.expose(), "hunter2");
        let secrets = Secrets::from(vec![secret.clone()]);
        assert_eq!(
            format!("{secret:?} {:?} {secrets:?}", Some(&secret)),
            "Secret(…) Some(Secret(…)) Secrets(…)"
        );
    }

    #[test]
    fn whoever_holds_a_secret_gets_the_new_one() {
        let (secret, other) = (Secret::new("hunter2"), Secret::new("hunter3"));
        let held = secret.clone();
        assert_ne!(held, other);
        secret.replace(&other);
        assert_eq!((held.expose(), held), ("hunter3".to_owned(), other));
        let secrets = Secrets::from(Vec::new());
        let held = secrets.clone();
        secrets.replace(vec![Secret::new("hunter4")]);
        assert_eq!(held.get()[0].expose(), "hunter4");
    }
}
