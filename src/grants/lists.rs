//! Grants as an issuer writes them: four lists of texts.

use serde_json::Value;

use super::{Calls, CallsError, Grants, MAX_ENTRIES, Prefix};
use crate::channel::{Topic, TopicError};

/// The lists, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lists {
    /// Topics that are followed from the beginning.
    pub topics: Vec<String>,
    /// Topics that may be followed.
    pub may_follow: Vec<String>,
    /// What topics that may be followed begin with.
    pub may_follow_prefix: Vec<String>,
    /// Calls that may be made.
    pub calls: Vec<String>,
}

/// A list that grants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {fault}")]
pub struct GrantsError {
    /// Which list, by the name of its field.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: ListFault,
}

/// What is wrong with a list. It shows nothing of the list's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListFault {
    /// Another type.
    #[error("is not a list of texts; write for example [\"news\"]")]
    NotAList,
    /// An entry of another type; carries its number.
    #[error("has an entry (number {0}) that is not a text; write it in quotes")]
    NotText(usize),
    /// Too long; carries its length.
    #[error("has {0} entries; it may have {MAX_ENTRIES} at most")]
    TooMany(usize),
    /// An entry is no topic, and no topics begin so; carries its number.
    #[error("has an entry (number {0}) that {1}")]
    Topic(usize, TopicError),
    /// An entry names no calls; carries its number.
    #[error("has an entry (number {0}) that {1}")]
    Calls(usize, CallsError),
}

/// Reads a list from JSON. `null` stands for an empty one.
///
/// # Errors
///
/// [`ListFault`]: it is no list of texts, or too long.
pub fn texts(value: &Value) -> Result<Vec<String>, ListFault> {
    let entries = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(entries) => entries,
        _ => return Err(ListFault::NotAList),
    };
    if entries.len() > MAX_ENTRIES {
        return Err(ListFault::TooMany(entries.len()));
    }
    let text = |(index, entry): (usize, &Value)| match entry {
        Value::String(text) => Ok(text.clone()),
        _ => Err(ListFault::NotText(index + 1)),
    };
    entries.iter().enumerate().map(text).collect()
}

impl Grants {
    /// Reads the lists.
    ///
    /// # Errors
    ///
    /// [`GrantsError`] names the first list that breaks a rule, and the rule.
    pub fn parse(lists: &Lists) -> Result<Self, GrantsError> {
        Ok(Self {
            topics: list("topics", &lists.topics, Topic::parse, ListFault::Topic)?,
            may_follow: list(
                "may_follow",
                &lists.may_follow,
                Topic::parse,
                ListFault::Topic,
            )?,
            may_follow_prefix: list(
                "may_follow_prefix",
                &lists.may_follow_prefix,
                Prefix::parse,
                ListFault::Topic,
            )?,
            calls: list("calls", &lists.calls, Calls::parse, ListFault::Calls)?,
        })
    }

    /// As an issuer writes them.
    pub fn lists(&self) -> Lists {
        let topics = |topics: &[Topic]| topics.iter().map(|t| t.as_str().to_owned()).collect();
        Lists {
            topics: topics(&self.topics),
            may_follow: topics(&self.may_follow),
            may_follow_prefix: self
                .may_follow_prefix
                .iter()
                .map(|prefix| prefix.as_str().to_owned())
                .collect(),
            calls: self
                .calls
                .iter()
                .map(|calls| calls.as_str().to_owned())
                .collect(),
        }
    }

    /// As a session keeps them: most have none, and pay nothing for it.
    pub fn boxed(self) -> Option<Box<Self>> {
        (!self.are_none()).then(|| Box::new(self))
    }
}

fn list<T, E>(
    field: &'static str,
    texts: &[String],
    parse: fn(&str) -> Result<T, E>,
    fault: fn(usize, E) -> ListFault,
) -> Result<Vec<T>, GrantsError> {
    let wrong = |fault| GrantsError { field, fault };
    if texts.len() > MAX_ENTRIES {
        return Err(wrong(ListFault::TooMany(texts.len())));
    }
    let entry = |(index, text): (usize, &String)| {
        parse(text).map_err(|error| wrong(fault(index + 1, error)))
    };
    texts.iter().enumerate().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lists() -> Lists {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Lists {
            topics: texts(&["news"]),
            may_follow: texts(&["room-7", "room 8"]),
            may_follow_prefix: texts(&["team "]),
            calls: texts(&["orders.*", ">"]),
        }
    }

    #[test]
    fn grants_read_back_as_they_were_written() {
        let grants = Grants::parse(&lists()).expect("good lists");
        assert_eq!(grants.lists(), lists());
        assert!(grants.boxed().is_some());
        assert_eq!(Grants::default().boxed(), None);
    }

    #[test]
    fn a_wrong_entry_is_named_by_its_number_alone() {
        type Field = fn(&mut Lists) -> &mut Vec<String>;
        let fields: [(&str, Field); 4] = [
            ("topics", |lists| &mut lists.topics),
            ("may_follow", |lists| &mut lists.may_follow),
            ("may_follow_prefix", |lists| &mut lists.may_follow_prefix),
            ("calls", |lists| &mut lists.calls),
        ];
        for (name, field) in fields {
            let mut wrong = lists();
            *field(&mut wrong) = vec!["good".to_owned(), "{secret\n".to_owned()];
            let error = Grants::parse(&wrong).expect_err(name).to_string();
            assert!(error.starts_with(&format!("{name} has an entry (number 2) that ")));
            assert!(!error.contains("secret"), "{error}");

            *field(&mut wrong) = vec!["x".to_owned(); MAX_ENTRIES + 1];
            let error = Grants::parse(&wrong).expect_err(name).to_string();
            assert_eq!(
                error,
                format!("{name} has 257 entries; it may have 256 at most")
            );
            *field(&mut wrong) = vec!["x".to_owned(); MAX_ENTRIES];
            assert!(Grants::parse(&wrong).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_list_is_texts() {
        assert_eq!(texts(&json!(null)), Ok(vec![]));
        assert_eq!(texts(&json!(["a"])), Ok(vec!["a".to_owned()]));
        assert_eq!(texts(&json!("a")), Err(ListFault::NotAList));
        assert_eq!(texts(&json!({ "a": 1 })), Err(ListFault::NotAList));
        assert_eq!(texts(&json!(["a", 1])), Err(ListFault::NotText(2)));
        assert_eq!(texts(&json!(vec!["a"; 257])), Err(ListFault::TooMany(257)));
    }
}
