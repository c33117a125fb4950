//! What tells 'certainly not published' from a status that a gRPC library has made itself.
//!
//! Libraries, load balancers and meshes answer UNAVAILABLE for a connection that broke. The
//! message of such a call may be published. Callers tell ours by its details.

use std::collections::HashMap;

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::guard::publishes;

/// The reason and the domain of the `google.rpc.ErrorInfo`.
const NOT_PUBLISHED: (&str, &str) = ("NOT_PUBLISHED", "usher");

/// The status of a call whose message was not published and will not be.
pub(super) fn not_published(status: &Status) -> Status {
    let (reason, domain) = NOT_PUBLISHED;
    let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
    Status::with_error_details(status.code(), status.message(), details)
}

/// The status of a call to this method that ended before anything of it was done.
pub(super) fn nothing_done(method: Option<&str>, status: Status) -> Status {
    match method.is_some_and(publishes) {
        true => not_published(&status),
        false => status,
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn callers_read_it_with_their_own_libraries() {
        let status = not_published(&Status::unavailable("NATS is away"));
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "NATS is away")
        );
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((&*info.reason, &*info.domain), ("NOT_PUBLISHED", "usher"));
    }
}
