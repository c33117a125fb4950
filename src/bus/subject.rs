//! The subjects of ours, built from checked parts only.

use crate::{
    channel::{Audience, Channel, Topic},
    grants::CallName,
    user::{UserId, from_subject_token, subject_token},
};

/// Knows the names of all subjects under one prefix.
#[derive(Debug, Clone)]
pub struct Subjects {
    prefix: String,
    /// What messages are heard under: with a stream between the publishers and us it is
    /// another prefix.
    heard: String,
    /// This gateway, as a token that no user has.
    gateway: String,
}

impl Subjects {
    /// Subjects under `nats.prefix`, which the configuration has checked.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            heard: prefix.to_owned(),
            gateway: "$".to_owned(),
        }
    }

    /// These subjects, as a gateway of this name uses them.
    #[must_use]
    pub fn of(self, gateway: &str) -> Self {
        let gateway = format!("${}", subject_token(gateway));
        Self { gateway, ..self }
    }

    /// These subjects where a stream captures what is published, and republishes it.
    #[must_use]
    pub fn durable(self) -> Self {
        let heard = format!("{}.live", self.prefix);
        Self { heard, ..self }
    }

    /// Where a user's messages are published: `usher.user.USER`.
    pub fn user(&self, user: &UserId) -> String {
        format!("{}.user.{}", self.prefix, user.subject_token())
    }

    /// What all users' subjects begin with: `usher.user.`
    pub(super) fn users(&self) -> String {
        format!("{}.user.", self.prefix)
    }

    /// What the subjects of users and of topics begin with. One token follows, which is a name.
    pub(super) fn named(&self) -> [String; 2] {
        [self.users(), format!("{}.topic.", self.prefix)]
    }

    /// All users' subjects: `usher.user.*`
    pub(super) fn all_users(&self) -> String {
        format!("{}.user.*", self.prefix)
    }

    /// `nats.prefix`
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where messages for every session are published: `usher.broadcast`.
    pub fn broadcast(&self) -> String {
        format!("{}.broadcast", self.prefix)
    }

    /// Where messages to those who follow a topic are published: `usher.topic.TOPIC`.
    pub fn topic(&self, topic: &Topic) -> String {
        format!("{}.topic.{}", self.prefix, topic.subject_token())
    }

    /// Which channel a subject is of, for those whom its messages are for.
    pub(super) fn channel(&self, subject: &str) -> Channel {
        let rest = subject.strip_prefix(&self.prefix).unwrap_or(subject);
        if let Some(token) = rest.strip_prefix(".topic.")
            && let Some(topic) = from_subject_token(token)
            && let Ok(topic) = Topic::parse(&topic)
        {
            return Channel::Topic(topic);
        }
        match rest {
            ".broadcast" => Channel::Broadcast,
            _ => Channel::User,
        }
    }

    /// Where messages to an audience are heard: where they are published, or, with a stream
    /// between, `usher.live.user.USER`.
    pub fn heard(&self, audience: &Audience) -> String {
        match audience {
            Audience::User(user) => format!("{}.user.{}", self.heard, user.subject_token()),
            Audience::Topic(topic) => format!("{}.topic.{}", self.heard, topic.subject_token()),
        }
    }

    /// Where broadcasts are heard: where they are published, or, with a stream between,
    /// `usher.live.broadcast`.
    pub fn heard_broadcast(&self) -> String {
        format!("{}.broadcast", self.heard)
    }

    /// Where the gateway publishes to itself, to learn that NATS has all that it published
    /// before.
    pub fn echo(&self) -> String {
        format!("{}.live.user.{}", self.prefix, self.gateway)
    }

    /// Where the gateway proves that it may publish to users. Nobody is subscribed there.
    pub fn probe(&self) -> String {
        format!("{}.user.{}", self.prefix, self.gateway)
    }

    /// Subjects on which this gateway hears nothing, in the place of those on which it hears
    /// messages to users and to topics.
    pub(super) fn heard_checks(&self) -> [String; 2] {
        ["user", "topic"].map(|kind| format!("{}.{kind}.{}", self.heard, self.gateway))
    }

    /// Where a message is told of that no session was given: `usher.offline.USER`.
    pub(super) fn offline(&self, token: &str) -> String {
        format!("{}.offline.{token}", self.prefix)
    }

    /// Where services are told that a user comes or goes, and, for `$lost`, that a gateway
    /// has vanished: `usher.presence.USER`.
    pub(super) fn presence(&self, token: &str) -> String {
        format!("{}.presence.{token}", self.prefix)
    }

    /// Where the user's messages are heard who stands in subjects as this token.
    pub(super) fn heard_token(&self, token: &str) -> String {
        format!("{}.user.{token}", self.heard)
    }

    /// Where gateways say that they are there: `usher.gateways`.
    pub fn gateways(&self) -> String {
        format!("{}.gateways", self.prefix)
    }

    /// Where a call of a client is published: `usher.call.NAME`. A name stands there as it is.
    pub(super) fn call(&self, name: &CallName) -> String {
        format!("{}.call.{}", self.prefix, name.as_str())
    }

    /// Where `usher check` publishes to see whether calls may be: no call has such a name.
    pub(super) fn call_check(&self) -> String {
        format!("{}.call.$check", self.prefix)
    }

    /// Where gateways ask and command each other: `usher.control`.
    pub fn control(&self) -> String {
        format!("{}.control", self.prefix)
    }

    /// What the endpoints of the service begin with: `usher.api`.
    pub fn api(&self) -> String {
        format!("{}.api", self.prefix)
    }

    /// What a stream captures.
    pub fn captured(&self) -> [String; 3] {
        let topics = format!("{}*", self.named()[1]);
        [self.all_users(), self.broadcast(), topics]
    }

    /// From where a stream republishes, and whereto.
    pub fn republished(&self) -> [String; 2] {
        [
            format!("{}.>", self.prefix),
            format!("{}.live.>", self.prefix),
        ]
    }
}
