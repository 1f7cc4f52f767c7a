//! What is DynamoDB's own: on an emulator, and on a scripted endpoint where no emulator can show it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod batches;
mod endpoint;
mod failures;
mod index;
mod lost;
mod requests;
mod support;
mod tables;
