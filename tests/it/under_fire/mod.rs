//! Bad days: an API server in every kind of trouble, keys that rotate under load, hostile tokens, clocks that jump.

mod clocks;
mod fault_matrix;
mod hostile;
mod hostile_claims;
mod hostile_keys;
mod patience;
mod rotation;
mod trouble;
