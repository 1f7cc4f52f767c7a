//! What the stores cost, beside their peers: see README.md.
//!
//! A library, so that what builds SQLite, the client of DynamoDB and axum is a program of its own: `with-sqlite`.

pub mod arena;
pub mod contended;
pub mod contest;
pub mod counting;
pub mod footprint;
mod growth;
mod operation;
pub mod options;
pub mod ours;
pub mod peer;
pub mod report;
pub mod requests;
pub mod run;
pub mod sizes;
pub mod workload;
pub mod zipf;

/// Of everything here.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
