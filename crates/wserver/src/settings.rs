//! The settings of an operator: where each is read from, and which value is in force.
//!
//! `table` is the one list of settings. Below it stand what one setting is (`definition`), how a
//! value is read from what flags, environment and file give (`layers`, `kind`), and how a list
//! becomes a struct (`define`); above it, reading everything (`sources`) and writing it (`write`).

mod definition;
mod layers;
mod kind;
mod problem;
mod define;
mod publisher;
mod table;
mod file;
mod sources;
mod write;

pub(crate) use definition::{Definition, OnReload, Shape};
pub(crate) use kind::LogFormat;
pub(crate) use layers::{Effective, Origin, Shown};
pub(crate) use problem::Problem;
pub(crate) use publisher::Publisher;
pub(crate) use sources::{Loaded, Sources};
pub(crate) use table::{Limits, Settings, definitions};
pub(crate) use write::{default_file, effective};
