#![doc = include_str!("../README.md")]

mod alone;
mod carrier;
mod coalescer;
mod failure;
mod queue;
mod unwind;

pub use self::{
    carrier::Carrier,
    coalescer::{Coalescer, Limits},
    failure::Failure,
};
