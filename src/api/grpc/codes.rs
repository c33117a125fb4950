//! What went wrong, in gRPC's words.

use tonic::{Code, Status};

use crate::api::{Failure, not_published::not_published};

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = match &failure {
            Failure::Invalid { .. } => Code::InvalidArgument,
            Failure::Forbidden(_) => Code::PermissionDenied,
            Failure::Unavailable(_) => Code::Unavailable,
            Failure::Busy(_) => Code::ResourceExhausted,
            Failure::NotServed(_) => Code::FailedPrecondition,
            Failure::Unconfirmed(_) => Code::DeadlineExceeded,
        };
        Self::new(code, failure.to_string())
    }
}

/// Why a message was not published, or is not known to be.
pub(super) fn publishing(failure: Failure) -> Status {
    let certain = failure.is_certain();
    let status = failure.into();
    match certain {
        true => not_published(&status),
        false => status,
    }
}

/// A code as gRPC's documents write it.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
