//! What the client and the server said, in the words of the contract.

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use session_core::{Error, ErrorKind};

use crate::BACKEND;

/// Why a request has no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// Nothing was done, and the same request may succeed in a moment.
    Busy(Error),
    /// Whether it was done is not known.
    Lost(Error),
    /// Nothing was done, and the same request will fail again.
    Refused(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Busy(error) | Failure::Lost(error) | Failure::Refused(error) => error,
        }
    }
}

pub(crate) fn fail(kind: ErrorKind) -> Error {
    Error::new(kind, BACKEND)
}

pub(crate) fn unavailable(detail: impl Into<String>) -> Error {
    fail(ErrorKind::Unavailable).with_detail(detail)
}

/// The reply is none to this request: the connection is out of step.
pub(crate) fn out_of_step(asked: &Asked<'_>) -> Failure {
    tracing::error!(action = asked.action, "a reply belongs to another request");
    Failure::Lost(unavailable(format!(
        "{asked}: the reply belongs to another request"
    )))
}

/// What was asked of whom: what an operator needs to know, and what a policy has to allow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) action: &'static str,
    pub(crate) table: &'a str,
}

impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "dynamodb:{} on table {:?}", self.action, self.table)
    }
}

/// Characters of a server's text that are told.
const MOST: usize = 200;

/// The client's error about a request.
pub(crate) fn of<E: ProvideErrorMetadata>(asked: &Asked<'_>, error: &SdkError<E, HttpResponse>) -> Failure {
    match error {
        SdkError::ServiceError(service) => of_server(asked, service.err(), service.raw().status().as_u16()),
        // No region, no credentials: nothing was sent. The client's text may show what it was given; it is not repeated.
        SdkError::ConstructionFailure(_) => Failure::Refused(unavailable(format!(
            "{asked}: the request could not be made: are a region and credentials configured?"
        ))),
        SdkError::TimeoutError(_) => {
            Failure::Lost(unavailable(format!("{asked}: the client's own timeout passed")))
        }
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            Failure::Lost(unavailable(format!("{asked}: connecting took too long")))
        }
        // The client's request could not be sent at all; for instance, its endpoint is no URL.
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            Failure::Refused(unavailable(format!("{asked}: the request could not be sent")))
        }
        // Refused, reset, closed, no such host, no provider that has credentials.
        SdkError::DispatchFailure(failure) => {
            let detail = failure
                .as_connector_error()
                .map_or_else(String::new, |error| innermost(error));
            Failure::Lost(unavailable(format!("{asked}: {detail}")))
        }
        // A reply that could not be read, or was not whole.
        _ => Failure::Lost(unavailable(format!("{asked}: the reply is none"))),
    }
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
fn of_server(asked: &Asked<'_>, error: &impl ProvideErrorMetadata, status: u16) -> Failure {
    let code = error.code().unwrap_or("no code");
    // Codes are names. What is none is not repeated.
    let code = match code.len() <= 64 && code.chars().all(|char| char.is_ascii_alphanumeric()) {
        true => code,
        false => "an unknown code",
    };
    let told = unavailable(format!("{asked}: {code}"));
    match code {
        // More than the table, its partition or the account may take: the request was not carried out.
        "ProvisionedThroughputExceededException"
        | "ProvisionedThroughputExceeded"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        // Another request is at work on the item in a transaction, or in another region: this one was not carried out.
        | "TransactionConflictException"
        | "ReplicatedWriteConflictException"
        | "TransactionInProgressException" => Failure::Busy(told),
        "ResourceNotFoundException" => Failure::Refused(unavailable(format!(
            "{asked}: {code}: there is no such table, or it is not ready: has DynamoDbStore::create_table been called?"
        ))),
        // The server's text names accounts and roles. The action and the table say what is missing.
        "AccessDeniedException" => Failure::Refused(unavailable(format!(
            "{asked}: {code}: the policy does not allow it"
        ))),
        // Wrong, expired or incomplete credentials, or a clock that is off by more than five minutes.
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "IncompleteSignatureException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch" => Failure::Refused(unavailable(format!(
            "{asked}: {code}: the server refused the credentials, or this machine's clock is off"
        ))),
        // A table of another shape, mostly. The text names attributes and types, not values.
        "ValidationException" => {
            let message: String = error.message().unwrap_or_default().chars().take(MOST).collect();
            Failure::Refused(unavailable(format!("{asked}: {code}: {message}")))
        }
        // 500 and 503: it may have been carried out.
        _ if status >= 500 => Failure::Lost(told),
        // What a newer server says. Nothing is made of what is not understood.
        _ => Failure::Refused(told),
    }
}

/// The last cause's text: `Connection refused (os error 111)` rather than `dispatch failure`.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string().chars().take(MOST).collect()
}
